"""python -m llmpool top"""

import json
from time import monotonic, sleep, strftime
from typing import Any, Dict, Iterator, List, Optional, Tuple

from .._pool.snapshots import BudgetSnapshot, RequestSnapshot
from . import reading, view
from .advise import advice_as_list, place
from .arguments import above_0, failed
from .reading import Source
from .screen import Screen
from .terminal import Terminal, duration, output
from .view import PoolView, Row, View, Watch

_ABOUT = """\
Shows the pools of running processes by origin and budget, how they were used,
and the requests in flight that are oldest. What is wrong with a pool is said
below, as advise says it, once it was watched for 5 seconds. Rates and
percentiles are of the last 5 seconds. q or Ctrl-C ends it.
"""
_STATUSES = """\
columns: req/s requests that came, fail/s those that got no answer, p50 and p99
of whole requests, flight requests that are not over, wait those of them that
wait for a connection, dial/s connections opened, conns connections that are
open

exit status: 0 shown, or left with q; 2 there is no process to look at
"""
_HEADS = ("req/s", "fail/s", "p50", "p99", "flight", "wait", "dial/s", "conns")
_WIDTHS = (6, 6, 7, 7, 6, 5, 6, 5)
_SPARKS, _USE = 12, 14  # columns
_REQUESTS = 10  # that are shown, where there is room for more
_HIGH = 0.8


def main(arguments: List[str]) -> int:
    parser = reading.parser_of("top", _ABOUT, _STATUSES)
    parser.add_argument(
        "--interval", type=above_0, default=1.0, metavar="SECONDS",
        help="between two looks [%(default)g]",
    )  # fmt: skip
    parser.add_argument(
        "--once", action="store_true", help="looks twice, shows one table, and ends"
    )
    given = parser.parse_args(arguments)
    try:
        source = Source(given.dir, given.pid)
        if given.once:
            _once(source, given.interval, given.json)
        else:
            _watch(source, given.interval, given.json)
    except ValueError as error:
        return failed("top", error, 2)
    return 0


def _once(source: Source, interval: float, is_json: bool) -> None:
    """
    Raises:
        ValueError: there is no process.
    """
    watch = Watch()
    seen = watch.see(monotonic(), source.read())
    if seen.processes:
        sleep(interval)
        seen = watch.see(monotonic(), source.read())
    if is_json:
        print(json.dumps(as_dict(seen), indent=2))
    elif seen.processes:
        terminal = output()
        for line in table(terminal, seen, None):
            terminal.line(line)
    if not seen.processes:
        reading.tell_unread("top", seen.unread)
        raise ValueError(source.nobody)


def _watch(source: Source, interval: float, is_json: bool) -> None:
    watch = Watch()
    if is_json:
        while True:
            print(json.dumps(as_dict(watch.see(monotonic(), source.read()))), flush=True)
            sleep(interval)
    source.read()  # what cannot be is said before the screen is taken
    with Screen() as screen:
        while True:
            seen = watch.see(monotonic(), source.read())
            lines = table(screen.terminal, seen, screen.height)
            screen.draw(lines if seen.processes else [*lines, f"{source.nobody}."])
            if screen.is_left(interval):
                return


def as_dict(seen: View) -> Dict[str, Any]:
    """For programs; times in milliseconds."""
    return {
        **view.as_dict(seen),
        "advice": advice_as_list(seen.verdict),
        "unread": reading.as_list(seen.unread),
    }


# ---- what is shown


def table(terminal: Terminal, seen: View, height: Optional[int]) -> List[str]:
    """The lines of the screen.

    Args:
        height: so many lines at most; None: any number. Words are left out last.
    """
    words = _words(terminal, seen, True)
    pools = [line for each in _pools(seen) for line in _pool(terminal, *each)]
    requests = _requests(terminal, seen)
    head = [terminal.paint(_title(seen), "bold"), "", _heads(terminal)]
    if height is not None and len(head) + len(pools) + len(requests) + len(words) > height:
        words = _cut(terminal, _words(terminal, seen, False), height - len(head) - 1)
        room = height - len(head) - len(words)
        # The requests get what the pools leave, but three of them and their heads are always there.
        pools = _cut(terminal, pools, max(room // 2, room - min(len(requests), 5)))
        requests = _cut(terminal, requests, room - len(pools))
    return [*head, *pools, *requests, *words]


def _cut(terminal: Terminal, lines: List[str], room: int) -> List[str]:
    if len(lines) <= room:
        return lines
    if room < 1:
        return []
    left = len(lines) - room + 1
    return [*lines[: room - 1], terminal.paint(f"  ... {left} more lines", "grey")]


def _pools(seen: View) -> Iterator[Tuple[str, PoolView]]:
    for process in seen.processes:
        for pool in process.pools:
            yield f"{process.pid} {process.name}, {pool.name}", pool


def _title(seen: View) -> str:
    count = len(seen.processes)
    pools = [pool for _, pool in _pools(seen)]
    flight = sum(pool.total.in_flight for pool in pools)
    return (
        f"llmpool top  {strftime('%H:%M:%S')}  {_number(count, 'process', 'processes')}, "
        f"{_number(len(pools), 'pool', 'pools')}, {flight} in flight"
    )


def _number(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def _name_width(terminal: Terminal) -> int:
    return terminal.width - sum(_WIDTHS) - len(_WIDTHS)


def _heads(terminal: Terminal) -> str:
    heads = " ".join(head.rjust(width) for head, width in zip(_HEADS, _WIDTHS))
    return terminal.paint(f"{'':{_name_width(terminal)}} {heads}", "grey")


def _pool(terminal: Terminal, name: str, pool: PoolView) -> Iterator[str]:
    yield _bar(terminal, name, pool)
    if len(pool.origins) != 1:
        yield _row(terminal, "all origins", pool.total)
    for origin, row in pool.origins.items():
        yield _row(terminal, _short(origin), row)
    for budget in pool.budgets:
        yield from _budget(terminal, budget)


def _bar(terminal: Terminal, name: str, pool: PoolView) -> str:
    """The pool's name, and how it was and is used."""
    if pool.limit:
        use = f" {100 * pool.utilization:3.0f} % of {pool.limit}"
    else:
        use = f" {pool.total.used} in use, no limit"
    sparks = terminal.sparkline(pool.history, _SPARKS) if pool.limit else " " * _SPARKS
    use = use.ljust(_USE)
    room = terminal.width - _SPARKS - len(use) - 2
    colour = "green" if pool.utilization < _HIGH else "yellow" if pool.utilization < 1 else "red"
    shown = terminal.shortened(name, room)
    return (
        f"{terminal.paint(shown, 'bold')}{' ' * (room - len(shown))}  "
        f"{terminal.paint(sparks, colour)}{terminal.paint(use.rstrip(), colour)}"
    )


def _short(origin: str) -> str:
    """Without what goes without saying."""
    for scheme, port in (("https://", ":443"), ("http://", ":80")):
        if origin.startswith(scheme) and origin.endswith(port):
            origin = origin[: -len(port)]
    return origin[len("https://") :] if origin.startswith("https://") else origin


def _row(terminal: Terminal, name: str, row: Row) -> str:
    cells = (
        _rate(row.requests),
        _rate(row.failed),
        _time(row.p50),
        _time(row.p99),
        str(row.in_flight),
        str(row.waiting),
        _rate(row.dials),
        str(row.connections),
    )
    alarms = {1: row.failed > 0, 5: row.waiting > 0}
    painted = [
        terminal.paint(cell.rjust(width), "red") if alarms.get(index) else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, _WIDTHS))
    ]
    width = _name_width(terminal) - 2
    return f"  {terminal.shortened(name, width):{width}} {' '.join(painted)}"


def _rate(rate: float) -> str:
    return "-" if not rate else f"{rate:.1f}" if rate < 1000 else f"{rate:.0f}"


def _time(seconds: Optional[float]) -> str:
    return "-" if seconds is None else duration(seconds)


def _budget(terminal: Terminal, budget: BudgetSnapshot) -> List[str]:
    parts = [f"{budget.in_flight} in flight", f"{budget.waiting} waiting"]
    if budget.stopped:
        parts.append(f"stopped for {duration(budget.stopped)}")
    if budget.share:
        members = str(budget.share.members or "unknown")
        parts.append(f"{'leased' if budget.share.leased else 'no lease'}, members: {members}")
    for limit in budget.limits:
        parts.append(f"{limit.remaining} of {limit.limit} {limit.unit.replace('_', ' ')}")
    lines = terminal.wrapped(f"budget {budget.name}: {', '.join(parts)}", "  ", "    ")
    is_held = budget.stopped or budget.waiting
    return [terminal.paint(line, "yellow") if is_held else line for line in lines]


def _requests(terminal: Terminal, seen: View) -> List[str]:
    """Those in flight that are oldest."""
    pools = list(_pools(seen))
    found = [(name, each) for name, pool in pools for each in pool.requests]
    if not found:
        return []
    found.sort(key=lambda item: -item[1].age)
    several = len(pools) > 1
    rows = [("age", "phase", "sent", "received", "tries", "origin")]
    rows += [_request(each, name if several else "") for name, each in found[:_REQUESTS]]
    lines = ["", terminal.paint("oldest in flight", "bold")]
    for number, (age, phase, sent, received, tries, where) in enumerate(rows):
        start = f"{age:>9} {phase:12} {sent:>9} {received:>9} {tries:>5}  "
        line = (start + terminal.shortened(where, terminal.width - len(start))).rstrip()
        lines.append(line if number else terminal.paint(line, "grey"))
    hidden = sum(pool.total.in_flight for _, pool in pools) - len(found[:_REQUESTS])
    if hidden > 0:
        lines.append(terminal.paint(f"  ... {hidden} more", "grey"))
    return lines


def _request(request: RequestSnapshot, place: str) -> Tuple[str, str, str, str, str, str]:
    return (
        duration(request.age),
        request.phase,
        str(request.sent),
        str(request.received),
        str(request.attempts),
        ", ".join(filter(None, (_short(request.origin), place))),
    )


def _words(terminal: Terminal, seen: View, is_all: bool) -> List[str]:
    """What is wrong, and with all of it what to change."""
    lines: List[str] = []
    for advice in seen.verdict.advice:
        where = terminal.shortened(place(advice), terminal.width - len(advice.rule) - 2)
        if is_all or not lines:
            lines.append("")
        lines.append(f"{terminal.paint(advice.rule, 'yellow')}  {where}")
        what = f"{advice.what} {advice.change}" if is_all else advice.what
        lines += terminal.wrapped(what, "  ", "  ")
    for each in seen.unread:
        lines += ["", *terminal.wrapped(reading.sentence(each))]
    return lines
