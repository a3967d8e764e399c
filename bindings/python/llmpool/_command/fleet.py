"""python -m llmpool fleet status"""

import json
import os
import re
import sys
from typing import Any, Dict, List
from urllib.parse import quote

from .._fleet.demand import UNITS, StoreAway, StoreRefused
from .._http import secrets
from .arguments import Parser, above_0, failed
from .terminal import Terminal, columns, duration, output

_ABOUT = """\
Shows the budgets of a fleet as its store has them: what is used of each limit,
what is free and what is lent, and each member with its share. It reads, and
changes nothing.

A password stands in the environment, and in single quotes in the URL:
  python -m llmpool fleet status 'redis://:$REDIS_PASSWORD@10.0.0.5'
"""
_STATUSES = """\
exit status: 0 shown, 1 there is no budget, 2 the store does not answer, or
refuses
"""
_BAR = 10
_PASSWORD = re.compile(r"(\w+://[^/?#@:]*:)(.*)(@[^@]*)")
_IN_QUERY = re.compile(r"[?&]password=.")
_IN_ARGUMENTS = (
    "the password stands in the arguments, where every user of this machine sees it: write "
    "$NAME in its place, in single quotes, for a variable of the environment"
)
_REFERENCE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


def main(arguments: List[str]) -> int:
    parser = Parser(prog="python -m llmpool fleet", description=_ABOUT, epilog=_STATUSES)
    add = parser.add_argument
    add("what", choices=("status",), help="what is to be shown")
    add("url", metavar="URL", help="of the store, as redis://10.0.0.5")
    add("--prefix", default="llmpool", help="what its keys begin with [%(default)s]")
    add("--timeout", type=above_0, default=5.0, metavar="SECONDS", help="[%(default)g]")
    add("--json", action="store_true", help="for programs, times in milliseconds")
    given = parser.parse_args(arguments)
    from .._fleet.redis_store import Redis

    try:
        store = Redis(_with_password(given.url), prefix=given.prefix, timeout=given.timeout)
        odd: List[str] = []
        budgets = store.status(odd)
    except (ImportError, ValueError, StoreRefused, StoreAway) as error:
        return failed("fleet", error, 2)
    for line in odd:
        print(f"fleet: {secrets.text(line)}", file=sys.stderr)
    if given.json:
        print(json.dumps({"budgets": [_as_dict(budget) for budget in budgets]}, indent=2))
    elif budgets:
        show(output(), budgets)
    if not budgets:
        return failed("fleet", ValueError(f"no budget is shared in {store!r}"), 1)
    return 0


def _with_password(url: str) -> str:
    """The URL with the password that the environment has."""
    if _IN_QUERY.search(url):
        raise ValueError(_IN_ARGUMENTS)
    found = _PASSWORD.fullmatch(url)
    if not found or not found.group(2):
        return url
    before, said, after = found.groups()
    reference = _REFERENCE.fullmatch(said)
    if reference is None:
        raise ValueError(_IN_ARGUMENTS)
    variable = reference.group(1) or reference.group(2)
    password = os.environ.get(variable)
    if not password:
        raise ValueError(f"the environment has no {variable}, or it is empty")
    secrets.hide(password)
    return f"{before}{quote(password, safe='')}{after}"


# ---- what is shown


def _as_dict(budget: Dict[str, Any]) -> Dict[str, Any]:
    """For programs: units by their names."""
    limits = [_named(limit) for limit in budget["limits"]]
    members = [
        {**member, "loans": [_named(loan) for loan in member["loans"]]}
        for member in budget["members"]
    ]
    return {**budget, "limits": limits, "members": members}


def _named(limit: Dict[str, Any]) -> Dict[str, Any]:
    unit = UNITS[limit["unit"]].replace(" ", "_")
    return {**limit, "unit": unit, "told": limit["told"] > 0}


def show(terminal: Terminal, budgets: List[Dict[str, Any]]) -> None:
    for number, budget in enumerate(budgets):
        if number:
            terminal.line()
        _show_budget(terminal, budget)


def _show_budget(terminal: Terminal, budget: Dict[str, Any]) -> None:
    members = budget["members"]
    count = f"{len(members)} member{'' if len(members) == 1 else 's'}"
    stop = ""
    if budget["stopped_ms"]:
        stop = terminal.paint(f", stopped for {duration(budget['stopped_ms'] / 1000)}", "yellow")
    terminal.line(f"{terminal.paint(budget['label'], 'bold')}  {count}{stop}")
    terminal.line()
    limits = sorted(budget["limits"], key=_order)
    rows = [["limit", "", "used", "free", "lent"]]
    for limit in limits:
        part = limit["used"] / limit["amount"]
        bar = terminal.bar(part, _BAR).ljust(_BAR)
        rows.append([_name(limit), bar, f"{part:.0%}", f"{limit['free']:,}", f"{limit['held']:,}"])
    _indented(terminal, rows, 2)
    terminal.line()
    heads = [UNITS[limit["unit"]] for limit in limits]
    rows = [["member", *heads, "flight", "wait", *(["places"] if budget["places"] else [])]]
    for member in sorted(members, key=lambda each: str(each["id"])):
        loans = {_order(loan): loan for loan in member["loans"]}
        shares = [_share(limit, loans.get(_order(limit))) for limit in limits]
        numbers = [member["in_flight"], member["waiting"]]
        numbers += [member["places"]] if budget["places"] else []
        name = terminal.shortened(member["id"], 40)
        rows.append([name, *shares, *(f"{number:,}" for number in numbers)])
    _indented(terminal, rows, 1)


def _share(limit: Dict[str, Any], loan: Any) -> str:
    """What a member uses of the limit."""
    return "-" if loan is None else f"{loan['used'] / limit['amount']:.0%}"


def _indented(terminal: Terminal, rows: List[List[str]], left: int) -> None:
    for index, line in enumerate(columns(rows, left)):
        terminal.line("  " + (terminal.paint(line, "grey") if index == 0 else line))


def _name(limit: Dict[str, Any]) -> str:
    told = ", told" if limit["told"] else ""
    return f"{limit['amount']:,} {UNITS[limit['unit']]} in {limit['window_ms'] / 1000:g} s{told}"


def _order(limit: Dict[str, Any]) -> Any:
    return limit["told"], limit["unit"], limit["window_ms"]
