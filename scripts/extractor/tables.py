"""Tables in pages of the documentation whose other words are written by hand: of metrics, which the library's sources
declare, and of options, with what each is called in C, Python and Swift."""

import re

from . import ROOT
from .header import HeaderError
from .markdown import Words, row, table
from .names import CORE, ENGINE, PythonNames, swift_names

DOCS = ROOT / "docs"
STRING = r'"([^"]*)"'


def files(header):
    return {
        DOCS / "monitoring.md": written(DOCS / "monitoring.md", "metrics", metrics()),
        DOCS / "options.md": written(DOCS / "options.md", "options", options(header)),
    }


def written(page, name, lines):
    """The page with these lines as the table of that name."""
    text = page.read_text()
    start, end = f"<!-- extracted: {name} -->\n\n", "\n<!-- end -->\n"
    before, found, rest = text.partition(start)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise HeaderError(f"{page}: there is no table {start.strip()}")
    return before + start + "\n".join(lines) + "\n" + end + after


# ---- metrics ------------------------------------------------------------------------------


def metrics():
    """In the order in which llmpool_metrics() has them."""
    out = table("name, after `llmpool_`", "kind", "what", "field of `llmpool_stats_t`")
    text = (ENGINE / "Statistics" / "MetricsText.swift").read_text()
    families = re.findall(rf'(?:family|limits)\(\s*"(\w+)",\s*(?:\.(counter|gauge),\s*)?{STRING}', text)
    families = [(name, kind or "gauge", what) for name, kind, what in families]
    if len(families) != len(re.findall(r'(?:family|limits)\(\s*"', text)):
        raise HeaderError("MetricsText.swift: a family is not understood")
    budgets = [family for family in families if family[0].startswith("budget")]
    ((name, kind, what),) = (family for family in families if family not in budgets)
    out.append(row(f"`{name}`", kind, what, f"`{name.removesuffix('_ratio')}`"))
    for wanted in ("counter", "gauge"):
        out += [row(f"`{name}`", kind, what, f"`{field}`") for kind, field, name, what in counts() if kind == wanted]
    out += [row(f"`{name}`", "counter", what, "") for name, what in reasons()]
    out += [row(f"`{name}`", "histogram", what, "") for name, what in histograms()]
    return out + [row(f"`{name}`", kind, what, "") for name, kind, what in budgets]


def counts():
    for path in (CORE / "Counters.swift", ENGINE / "Statistics" / "Statistics.swift"):
        yield from re.findall(rf'\.(counter|gauge)\(\s*"(\w+)", \\\.\w+, "(\w+)",\s*{STRING}', path.read_text())


def reasons():
    text = (ENGINE / "Statistics" / "ReasonRow.swift").read_text()
    cases = re.findall(rf"case \.(\w+): {STRING}", text)
    named = {case: words for case, words in cases if words.endswith("_total")}
    return [(named[case], words) for case, words in cases if case in named and words != named[case]]


def histograms():
    text = (ENGINE / "Statistics" / "HistogramKind.swift").read_text()
    return re.findall(rf'Row\(\s*"\w+", "(\w+)", \[[\d, ]*\],\s*{STRING}', text)


# ---- options ------------------------------------------------------------------------------

NOT_SET = {"size", "filled", "reserved"}


def options(header):
    head = table("C: `llmpool_options_t`", "a new pool has", "Python", "Swift: `Pool.Options`", "")
    words, python, swift = Words(header), PythonNames(), swift_names()
    out, begun = [], False
    group = ""  # what holds for the fields that follow
    for field in header.structs["llmpool_options"].members:
        if not field.name:
            group, begun = field.comment, False
        if not field.name or field.name in NOT_SET:
            continue
        if not begun:
            out += ["", words.text(group, linked="c.md"), "", *head]
            begun = True
        if field.name not in swift:
            raise HeaderError(f"{field.name} has no name in Swift")
        said = words.text(field.comment, linked="c.md")
        out.append(row(f"`{field.name}`", default(field, group), python.of(field.name), f"`{swift[field.name]}`", said))
    return out[1:]


def default(field, group):
    """Of a new pool; where there is none, in words."""
    if field.declared != "uint32_t":
        return ""
    if not field.default:
        raise HeaderError(f"{field.name} has no default in brackets")
    if not field.default.isdigit():
        return f"`{field.default}`"
    number = int(field.default)
    if number == 0 and ("0 means no" in group or field.name.endswith("_timeout_ms")):
        return "none"
    if not field.name.endswith("_ms"):
        return f"{number:,}"
    return f"{number // 1000} s" if number % 1000 == 0 else f"{number} ms"
