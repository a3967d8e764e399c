"""python -m llmpool bench URL"""

import argparse
import asyncio
import json
import signal
import sys
from contextlib import suppress
from time import process_time
from typing import Any, Dict, List, NamedTuple

import llmpool

from .._http import secrets
from . import call as calls
from .arguments import Parser, above_0, failed, from_0, from_1
from .call import Call
from .load import Load, Plan, histogram, percentile
from .terminal import Status, Terminal, duration, messages, milliseconds, output

_ABOUT = """\
Puts load on a server. In the closed loop, the default, so many requests are in
flight all the time, each followed by the next when it is answered. In the open
loop (--rate) requests go out at a steady rate, whatever the server does, and
the time of each counts from when it was due: what waits behind a slow answer
shows. Retries count as requests. No redirect is followed.

More than 100 requests, or any that is no GET, HEAD or OPTIONS, go to another
machine with --yes alone: they may be billed.
"""
_STATUSES = """\
exit status: 0 every request was answered, and without an error; 1 some were
not; 2 nothing was sent; 130 stopped by Ctrl-C
"""
FREE = 100  # requests that ask nobody
_PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
_BUCKETS = 12
_INTERVAL = 0.1  # seconds between two looks at the progress


class Result(NamedTuple):
    """
    Attributes:
        sent: requests, retries included.
        cpu: of this process, as a part of one processor.
        is_stopped: by Ctrl-C, before it was done.
    """

    call: Call
    load: Load
    stats: "llmpool.Stats"
    cpu: float
    is_stopped: bool

    @property
    def sent(self) -> int:
        return self.stats.submitted + self.stats.retries


def main(arguments: List[str]) -> int:
    given = _parser().parse_args(arguments)
    try:
        call = calls.call_of(given)
        plan = _plan(given)
        _ask(call, plan, given.yes)
        with _open_pool(call, given.connections) as pool:
            result = asyncio.run(_bench(call, plan, pool))
    except calls.REFUSED as error:
        return failed("bench", error, 2)
    if given.json:
        print(json.dumps(as_dict(result), indent=2))
    else:
        _show(output(), result)
    if result.is_stopped:
        raise KeyboardInterrupt
    return 1 if result.load.failed or not result.load.answered else 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m llmpool bench", description=_ABOUT, epilog=_STATUSES)
    calls.add_arguments(parser)
    add = parser.add_argument
    add(
        "--requests",
        type=from_1,
        metavar="N",
        help=f"how many, retries included [{FREE}; with --duration no limit]",
    )
    add("--duration", type=above_0, metavar="SECONDS", help="how long new ones are begun")
    add(
        "--concurrency",
        type=from_1,
        default=10,
        metavar="N",
        help="in flight, of the closed loop [%(default)s]",
    )
    add("--rate", type=above_0, metavar="N", help="requests a second: the open loop")
    add(
        "--retries",
        type=from_0,
        default=0,
        metavar="N",
        help="of a request, after 408, 409, 429 and 5xx [%(default)s]",
    )
    add(
        "--connections",
        type=from_1,
        default=100,
        metavar="N",
        help="max_connections of the pool [%(default)s]",
    )
    add("--yes", action="store_true", help="send them, though they may be billed")
    return parser


def _plan(given: argparse.Namespace) -> Plan:
    requests = given.requests
    if requests is None and given.duration is None:
        requests = FREE
    return Plan(given.concurrency, given.rate, requests, given.duration, given.retries)


def _ask(call: Call, plan: Plan, is_agreed: bool) -> None:
    """
    Raises:
        ValueError: it might cost somebody money who has not agreed.
    """
    most = plan.most
    if call.is_loopback or (call.is_safe and most is not None and most <= FREE):
        return
    number = "any number of" if most is None else "up to" if plan.seconds else ""
    count = " ".join(filter(None, (number, "" if most is None else str(most))))
    what = f"{count} {call.method} requests to {call.url.host} may be billed"
    if not is_agreed:
        raise ValueError(f"{what}; --yes sends them")
    print(f"{what}.", file=sys.stderr)


def _open_pool(call: Call, connections: int) -> llmpool.Pool:
    return call.open_pool(limits=llmpool.Limits(max_connections=connections))


async def _bench(call: Call, plan: Plan, pool: llmpool.Pool) -> Result:
    async with llmpool.AsyncClient(pool=pool) as client:
        load = Load(plan, call, client)
        running = asyncio.ensure_future(load.run())
        watching = asyncio.ensure_future(_watch(load))
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, running.cancel)
        began = process_time()
        is_stopped = False
        try:
            await running
        except asyncio.CancelledError:
            is_stopped = True
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
        cpu = (process_time() - began) / max(load.seconds, 1e-6)
        return Result(call, load, pool.stats(), cpu, is_stopped)


# ---- what is shown


async def _watch(load: Load) -> None:
    terminal = messages()
    status = Status(terminal)
    try:
        while True:
            status.show(_progress(terminal, load))
            await asyncio.sleep(_INTERVAL)
    finally:
        status.clear()


def _progress(terminal: Terminal, load: Load) -> str:
    done = load.done()
    width = terminal.width // 3
    bar = terminal.bar(done, width).ljust(width)
    failed = f", {load.failed} failed" if load.failed else ""
    return f"{100 * done:3.0f} % |{bar}| {load.answered} answered{failed}"


def as_dict(result: Result) -> Dict[str, Any]:
    """For programs; times in milliseconds."""
    load, plan = result.load, result.load.plan
    return {
        "url": secrets.in_url(result.call.url),
        "method": result.call.method,
        "loop": "closed" if plan.rate is None else "open",
        "concurrency": plan.concurrency if plan.rate is None else None,
        "rate": plan.rate,
        "seconds": round(load.seconds, 3),
        "stopped": result.is_stopped,
        "requests": load.begun,
        "sent": result.sent,
        "answered": load.answered,
        "failed": load.failed,
        "statuses": {str(status): count for status, count in sorted(load.statuses.items())},
        "errors": dict(load.errors),
        "said": load.said,
        "http_versions": dict(load.versions),
        "answered_per_second": round(_per_second(load), 3),
        "latency_ms": _percentiles(load.latencies),
        "first_byte_ms": _percentiles(load.first_bytes),
        "connections": result.stats.opened,
        "behind_ms": milliseconds(load.behind),
        "cpu": round(result.cpu, 3),
    }


def _percentiles(values: List[float]) -> Dict[str, float]:
    ordered = sorted(values)
    if not ordered:
        return {}
    found = {
        f"p{percent:g}": milliseconds(percentile(ordered, percent)) for percent in _PERCENTILES
    }
    mean = milliseconds(sum(ordered) / len(ordered))
    return {
        "min": milliseconds(ordered[0]), **found, "max": milliseconds(ordered[-1]), "mean": mean
    }  # fmt: skip


def _per_second(load: Load) -> float:
    return load.answered / load.seconds if load.seconds else 0.0


def _show(terminal: Terminal, result: Result) -> None:
    load, plan = result.load, result.load.plan
    terminal.paragraph(result.call.shown, colour="bold")
    loop = f"{plan.concurrency} in flight" if plan.rate is None else f"{plan.rate:g} a second"
    versions = " and ".join(sorted(load.versions)) or "no HTTP"
    opened = result.stats.opened
    again = f", sent {result.sent} times" if result.sent != load.begun else ""
    connections = f"{opened} connection{'' if opened == 1 else 's'}"
    terminal.paragraph(f"{load.begun} requests{again}, {loop}, {versions} on {connections}")
    terminal.line()
    terminal.line(f"answered  {load.answered} in {duration(load.seconds)}, {_rate(load)} a second")
    counts = [(f"HTTP {status}", count) for status, count in sorted(load.statuses.items())]
    for name, count in [*counts, *load.errors.most_common()]:
        said = load.said.get(name)
        terminal.line(f"          {terminal.paint(f'{count} {name}', 'red' if said else 'green')}")
        if said:
            terminal.paragraph(said, " " * 12, " " * 12)
    if load.latencies:
        terminal.line()
        _show_times(terminal, load)
    for text in _words(result):
        terminal.line()
        terminal.paragraph(text)


def _rate(load: Load) -> str:
    rate = _per_second(load)
    return f"{rate:.1f}" if rate < 100 else f"{rate:.0f}"


def _show_times(terminal: Terminal, load: Load) -> None:
    header = ["", *(f"p{percent:g}" for percent in _PERCENTILES), "max", "mean"]
    rows = [header]
    for name, values in (("first byte", load.first_bytes), ("whole answer", load.latencies)):
        ordered = sorted(values)
        if ordered:
            shown = [duration(percentile(ordered, percent)) for percent in _PERCENTILES]
            mean = sum(ordered) / len(ordered)
            rows.append([name, *shown, duration(ordered[-1]), duration(mean)])
    terminal.table(rows)
    terminal.line()
    buckets = histogram(load.latencies, _BUCKETS)
    most = max(bucket.size for bucket in buckets)
    counts = [str(bucket.size) for bucket in buckets]
    width = terminal.width - 12 - max(map(len, counts)) - 2
    for bucket, count in zip(buckets, counts):
        bar = terminal.bar(bucket.size / most, width)
        terminal.line(f"{duration(bucket.low):>10}  {terminal.paint(bar, 'cyan')} {count}")


def _words(result: Result) -> List[str]:
    load, said = result.load, []
    if result.cpu > 0.9:
        said.append(
            f"This process was busy {100 * result.cpu:.0f} % of the time: the figures are its own "
            "limit, and no longer the server's."
        )
    if load.plan.rate is not None and load.behind > 1 / load.plan.rate and load.behind > 0.05:
        said.append(
            f"Requests went out up to {duration(load.behind)} late: this machine does not keep the "
            "rate, and their times contain it."
        )
    if 429 in load.statuses:
        said.append(
            "429 are the server's limits: a Budget holds requests back before they are refused "
            "(docs/limits.md)."
        )
    if result.is_stopped:
        said.append("Stopped before it was done: what was in flight is not counted.")
    return said
