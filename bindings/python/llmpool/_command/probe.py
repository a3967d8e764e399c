"""python -m llmpool probe URL"""

import json
import os
import sys
from statistics import median
from time import perf_counter
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import llmpool

from .._http import secrets
from .._http.exceptions import HTTPError
from . import call as calls
from .arguments import Parser, failed, from_1
from .call import Call
from .checks import proxy_in_use
from .phases import PHASES, Phase, Sample, phases_of, typical, usual_total, words
from .terminal import Status, Terminal, columns, duration, messages, milliseconds, output

_ABOUT = """\
Makes one cold call, which connects, and several warm ones on the same
connection, one after the other, and shows where their time went. Nothing is
sent twice, and no redirect is followed.
"""
_STATUSES = """\
exit status: 0 the server answered; 1 it did not, or with an error; 2 nothing
was sent
"""


MOST = 100  # calls to another machine


class Result(NamedTuple):
    """
    Attributes:
        cold: the first call.
        warm: the others.
        words: what dominates, and what to change.
        stopped: which warm call failed, and why; "": none.
    """

    call: Call
    cold: Sample
    warm: List[Sample]
    words: List[str]
    stopped: str = ""

    @property
    def samples(self) -> List[Sample]:
        return [self.cold, *self.warm]


def main(arguments: List[str]) -> int:
    parser = Parser(prog="python -m llmpool probe", description=_ABOUT, epilog=_STATUSES)
    calls.add_arguments(parser)
    parser.add_argument(
        "--warm", type=from_1, default=5, metavar="N", help="warm calls [%(default)s]"
    )
    parser.add_argument(
        "--html", metavar="FILE", help="writes the waterfall as a page of its own, too"
    )
    given = parser.parse_args(arguments)
    try:
        call = calls.call_of(given)
        _announce(call, given.warm + 1)
        if given.html is not None:  # before anything is sent, and paid for
            open(given.html, "a", encoding="utf-8").close()
        with call.open_pool() as pool:
            result = _probe(call, pool, given.warm)
        if given.html is not None:
            from .page import page

            with open(given.html, "w", encoding="utf-8") as file:
                file.write(page(result))
    except calls.REFUSED as error:
        return failed("probe", error, 2)
    except HTTPError as error:
        return failed("probe", error, 1)
    if given.json:
        print(json.dumps(as_dict(result), indent=2))
    else:
        _show(output(), result)
    if result.stopped:
        print(f"llmpool probe: {secrets.text(result.stopped)}", file=sys.stderr)
    is_bad = any(sample.status >= 400 for sample in result.samples)
    return 1 if is_bad or result.stopped else 0


def _announce(call: Call, count: int) -> None:
    """
    Raises:
        ValueError: so many are a load, not a probe.
    """
    if count > MOST and not call.is_loopback:
        raise ValueError(f"--warm: at most {MOST - 1} calls to another machine; bench makes more")
    if not call.is_safe and not call.is_loopback:
        print(
            f"{count} {call.method} requests go to {call.url.host}; they may be billed.",
            file=sys.stderr,
        )


def _probe(call: Call, pool: llmpool.Pool, count: int) -> Result:
    client = llmpool.Client(pool=pool)
    status = Status(messages())
    samples: List[Sample] = []
    stopped = ""
    try:
        for number in range(count + 1):
            label = f"warm {number}" if number else "cold"
            status.show(f"{label} of {count}" if number else label)
            try:
                samples.append(_measure(client, call, label))
            except HTTPError as error:
                if len(samples) < 2:
                    raise
                stopped = f"{label}: {error}"  # what was measured, and paid for, is shown
                break
    finally:
        status.clear()
    cold, warm = samples[0], samples[1:]
    is_proxied = proxy_in_use(os.environ, call.url.scheme) is not None
    said = words(cold, warm, call.url.scheme == "https", is_proxied)
    return Result(call, cold, warm, said, stopped)


def _measure(client: llmpool.Client, call: Call, label: str) -> Sample:
    began = perf_counter()
    with client.stream(**call.arguments(), retry=False) as response:
        size, events = _read(response)
        total = perf_counter() - began
    timings = response.timings
    return Sample(
        label,
        response.status_code,
        response.http_version,
        response.peer,
        response.reused,
        phases_of(timings, total),
        timings.first_byte,
        total,
        size,
        events,
        _said(response),
    )


def _read(response: llmpool.StreamResponse) -> Tuple[int, Optional[int]]:
    """The body's size, and how many events it had."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if response.status_code == 200 and kind == "text/event-stream":
        sizes = [len(event.data) for event in response.iter_sse()]
        return sum(sizes), len(sizes)
    return len(response.read()), None


def _said(response: llmpool.StreamResponse) -> str:
    try:
        response.raise_for_status()
    except HTTPError as error:
        return str(error)
    return ""


# ---- what is shown


def as_dict(result: Result) -> Dict[str, Any]:
    """For programs; times in milliseconds."""
    return {
        "url": secrets.in_url(result.call.url),
        "method": result.call.method,
        "calls": [_sample_as_dict(sample) for sample in result.samples],
        "warm_median_ms": {name: milliseconds(each) for name, each in typical(result.warm).items()},
        "warm_median_total_ms": milliseconds(usual_total(result.warm)),
        "words": result.words,
    }


def _sample_as_dict(sample: Sample) -> Dict[str, Any]:
    values = sample._asdict()
    del values["said"]
    values["phases_ms"] = {name: milliseconds(each) for name, each in values.pop("phases").items()}
    for name in ("first_byte", "total"):
        seconds = values.pop(name)
        values[f"{name}_ms"] = None if seconds is None else milliseconds(seconds)
    return values


def _show(terminal: Terminal, result: Result) -> None:
    terminal.paragraph(result.call.shown, colour="bold")
    terminal.line(about(result.cold))
    terminal.line()
    for line in waterfall(terminal, result.samples):
        terminal.line(line)
    terminal.line()
    _show_phases(terminal, result)
    for text in result.words:
        terminal.line()
        terminal.paragraph(text)


def about(sample: Sample) -> str:
    events = "" if sample.events is None else f", {sample.events} events"
    return (
        f"{sample.status} by {sample.http_version} from {sample.peer}, {sample.size} bytes{events}"
    )


def waterfall(terminal: Terminal, samples: List[Sample]) -> List[str]:
    """A line for each call, all to one scale."""
    ends = [f"{duration(sample.total):>8}" for sample in samples]
    label_width = max(len(sample.label) for sample in samples)
    width = terminal.width - label_width - max(map(len, ends)) - 2
    longest = max(sample.total for sample in samples)
    lines = []
    for sample, end in zip(samples, ends):
        bar, used = _bar(terminal, sample, width, longest)
        lines.append(f"{sample.label:{label_width}} {bar}{' ' * (width - used)} {end}")
    return lines


def _bar(terminal: Terminal, sample: Sample, width: int, longest: float) -> Tuple[str, int]:
    """The phases of a call, and how many columns they take."""
    bar, at, used = "", 0.0, 0
    for phase in PHASES:
        at += sample.phases.get(phase.name, 0.0)
        end = min(width, round(at / longest * width))
        bar += _mark(terminal, phase, end - used)
        used = max(used, end)
    return bar, used


def _show_phases(terminal: Terminal, result: Result) -> None:
    usual, cold = typical(result.warm), result.cold
    shown = [phase for phase in PHASES if phase.name in usual or phase.name in cold.phases]
    rows = [("", "cold", "warm", "")]
    for phase in shown:
        times = _cell(cold.phases.get(phase.name)), _cell(usual.get(phase.name))
        rows.append((phase.name, *times, phase.what))
    rows.append(("total", duration(cold.total), duration(usual_total(result.warm)), ""))
    rows.append(("first byte", _cell(cold.first_byte), _cell(first_byte(result.warm)), ""))
    numbers = columns([row[:3] for row in rows])
    width = max(map(len, numbers))
    marks = [" ", *(_mark(terminal, phase) for phase in shown), " ", " "]
    for mark, line, row in zip(marks, numbers, rows):
        terminal.line(f"{mark} {line:{width}}  {row[3]}".rstrip())


def _mark(terminal: Terminal, phase: Phase, width: int = 1) -> str:
    """A piece of a bar. Only colours tell blocks apart."""
    is_block = terminal.has_blocks and terminal.has_colour
    return terminal.paint(("\u2588" if is_block else phase.letter) * width, phase.colour)


def first_byte(samples: List[Sample]) -> Optional[float]:
    """The median, in seconds; None where none came."""
    known = [sample.first_byte for sample in samples if sample.first_byte is not None]
    return median(known) if known else None


def _cell(seconds: Optional[float]) -> str:
    return "-" if seconds is None else duration(seconds)
