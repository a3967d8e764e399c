"""python -m llmpool doctor"""

import json
import os
import sys
from typing import List, NamedTuple

from . import checks
from .arguments import Parser, from_1
from .checks import Fact, Finding
from .process import Process
from .terminal import Terminal, columns, output

_ABOUT = """\
Looks for what is wrong with this machine's llmpool: libraries and their
versions, another project's files in the package, a foreign OpenSSL, the CA
store, proxy variables, descriptors, gunicorn's preload. With --pid it looks at
a process that runs: two copies of the library, descriptors, proxy variables,
and children that were forked while its pool ran. Nothing is sent anywhere.
"""
_STATUSES = """\
exit status: 0 nothing found, 1 something found, 2 it cannot be looked for
"""
_COLOURS = {"error": "red", "warning": "yellow"}


class Report(NamedTuple):
    facts: List[Fact]
    findings: List[Finding]


def main(arguments: List[str]) -> int:
    parser = Parser(
        prog="python -m llmpool doctor",
        description=_ABOUT,
        epilog=_STATUSES,
    )
    parser.add_argument("--pid", type=from_1, metavar="N", help="a process of yours that runs")
    parser.add_argument(
        "--connections",
        type=from_1,
        default=checks.MAX_CONNECTIONS,
        metavar="N",
        help="max_connections of your pools together [%(default)s]",
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args(arguments)
    try:
        process = Process() if given.pid is None else Process(given.pid)
        report = _examine(process, given.connections)
    except OSError as error:
        why = f"process {given.pid}: {error.strerror}"
        if not os.path.exists("/proc/self"):
            why = "/proc is not mounted here, where it looks at processes, this one too"
        print(f"llmpool doctor: {why}", file=sys.stderr)
        return 2
    if given.json:
        report_dict = {name: checks.as_dict(items) for name, items in report._asdict().items()}
        print(json.dumps({"pid": given.pid, **report_dict}, indent=2))
    else:
        _show(output(), report)
    return 1 if report.findings else 0


def _examine(process: Process, connections: int) -> Report:
    environment = process.environment()
    if process.pid:
        facts, findings = _of_another(process)
    else:
        facts, findings = _of_this(process)
    facts += checks.proxy_facts(environment)
    limit = process.descriptors()
    facts.append(Fact("descriptors", "no limit" if limit < 0 else str(limit), "RLIMIT_NOFILE"))
    findings += checks.proxies(environment)
    findings += checks.copies(process)
    findings += checks.descriptors(limit, connections)
    return Report(facts, findings)


def _of_this(process: Process) -> Report:
    environment = process.environment()
    findings = [*checks.library_loads(), *checks.distributions()]
    below = checks.loaded_versions(process)
    store = checks.authorities(environment, checks.default_places(process))
    where = store.file if os.path.isfile(store.file) else store.directories
    facts = [*checks.installed(), *below, Fact("CA certificates", str(store.certificates), where)]
    findings += checks.versions(below)
    # Without OpenSSL there is nobody to look for certificates, and that has been said.
    findings += store.findings(environment) if process.libraries("libcrypto") else ()
    findings += checks.preloads(environment, os.getcwd())
    return Report(facts, findings)


def _of_another(process: Process) -> Report:
    loaded = process.libraries("libllmpool")
    facts = [Fact("process", str(process.pid), process.name())]
    facts += [Fact("libllmpool", "loaded", library.path) for library in loaded]
    findings = list(checks.forks(process))
    if not loaded:
        findings.append(
            Finding(
                "warning",
                "not-loaded",
                f"Process {process.pid} ({process.name()}) has not loaded libllmpool.",
                "Its calls, if it makes any, do not go through the pool: see docs/sdks.md.",
            )
        )
    return Report(facts, findings)


def _show(terminal: Terminal, report: Report) -> None:
    lines = columns([(fact.name, fact.value) for fact in report.facts], 2)
    width = max(map(len, lines))
    for line, fact in zip(lines, report.facts):
        if width + 2 + len(fact.where) <= terminal.width:
            terminal.line(f"{line:{width}}  {fact.where}".rstrip())
        else:  # a long path has a line of its own
            terminal.line(line)
            terminal.line(f"  {fact.where}")
    terminal.line()
    for finding in report.findings:
        label = f"{finding.level:8}"
        colour = _COLOURS[finding.level]
        terminal.paragraph(finding.what, terminal.paint(label, colour), " " * len(label))
        terminal.paragraph(finding.advice, " " * len(label), " " * len(label))
        terminal.line()
    if not report.findings:
        terminal.line(terminal.paint("Nothing is wrong.", "green"))
    else:
        count = len(report.findings)
        terminal.line(f"{count} {'thing is' if count == 1 else 'things are'} wrong.")
