"""python -m llmpool advise"""

import json
import sys
from time import monotonic, sleep
from typing import Any, Dict, List

from . import reading
from .advice import Advice, TooLittle, Verdict, advise
from .arguments import above_0, failed
from .reading import Source
from .rules import ENOUGH, SHORTEST
from .terminal import Status, Terminal, duration, messages, milliseconds, output

_ABOUT = f"""\
Looks at running processes twice, and says in plain words which setting of
their pools to change, and why, with the figures of the time between. Of a pool
that had fewer than {ENOUGH} requests it says that this is too little, but for what
each of them shows by itself: that it is stuck, or waits long.
"""
_STATUSES = """\
exit status: 0 there is nothing to change, 1 there is something, 2 there is no
process to look at
"""


def main(arguments: List[str]) -> int:
    parser = reading.parser_of("advise", _ABOUT, _STATUSES)
    parser.add_argument(
        "--window", type=above_0, default=10.0, metavar="SECONDS",
        help=f"how long to look, at least {SHORTEST:g} [%(default)g]",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    if given.window < SHORTEST:
        parser.error(f"argument --window: at least {SHORTEST:g} seconds, not {given.window:g}")
    try:
        source = Source(given.dir, given.pid)
        before = source.read()
        if not before.processes:
            reading.tell_unread("advise", before.unread)
            raise ValueError(source.nobody)
        _wait(given.window, len(before.processes))
        now = source.read()
    except ValueError as error:
        return failed("advise", error, 2)
    verdict = advise(before.processes, now.processes)
    if given.json:
        print(json.dumps({**as_dict(verdict), "unread": reading.as_list(now.unread)}, indent=2))
    else:
        show(output(), verdict)
        sys.stdout.flush()
        reading.tell_unread("advise", now.unread)
    if not verdict.pools:
        return failed("advise", ValueError("all processes that were there have ended"), 2)
    return 1 if verdict.advice else 0


def _wait(seconds: float, count: int) -> None:
    status = Status(messages())
    # A little more than that: what is stuck is to be so for all of it.
    deadline = monotonic() + seconds + 0.01
    try:
        while True:
            left = deadline - monotonic()
            if left <= 0:
                return
            number = f"{count} process{'' if count == 1 else 'es'}"
            status.show(f"looking at {number}, {left:.0f} s left")
            sleep(min(left, 0.5))
    finally:
        status.clear()


# ---- what is shown


def as_dict(verdict: Verdict) -> Dict[str, Any]:
    """For programs; times in milliseconds."""
    return {
        "seconds": round(verdict.seconds, 3),
        "healthy_pools": verdict.healthy,
        "advice": advice_as_list(verdict),
        "too_little": [each._asdict() for each in verdict.too_little],
    }


def advice_as_list(verdict: Verdict) -> List[Dict[str, Any]]:
    return [{**each._asdict(), "figures": _figures(each)} for each in verdict.advice]


def _figures(advice: Advice) -> Dict[str, Any]:
    return {
        name.replace("_seconds", "_ms"): milliseconds(value) if "_seconds" in name else value
        for name, value in advice.figures.items()
    }


def place(advice: Advice) -> str:
    """Which process, pool and origin it is about."""
    origin = f", {advice.origin}" if advice.origin else ""
    return f"{advice.pid} {advice.process}, {advice.pool}{origin}"


def show(terminal: Terminal, verdict: Verdict) -> None:
    for advice in verdict.advice:
        terminal.line(f"{terminal.paint(advice.rule, 'yellow')}  {place(advice)}")
        terminal.paragraph(advice.what, "  ", "  ")
        terminal.paragraph(advice.change, "  ", "  ")
        terminal.line()
    advised = {(advice.pid, advice.pool) for advice in verdict.advice}
    for each in verdict.too_little:
        beyond = "beyond that " if (each.pid, each.pool) in advised else ""
        terminal.paragraph(_too_little(each, beyond, verdict.seconds))
    if verdict.healthy:
        good = f"{verdict.healthy} pool{'' if verdict.healthy == 1 else 's'}"
        terminal.line(terminal.paint(f"Nothing to change at {good}.", "green"))


def _too_little(pool: TooLittle, beyond: str, seconds: float) -> str:
    number = f"{pool.requests} request{'' if pool.requests == 1 else 's'}"
    return (
        f"{pool.pid} {pool.process}, {pool.pool}: {beyond}too little to say, {number} in "
        f"{duration(seconds)}; {ENOUGH} are needed."
    )
