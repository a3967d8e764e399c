"""The waterfall as a page: one file, without scripts, and nothing that is fetched."""

from html import escape
from typing import TYPE_CHECKING, List, Optional

from .phases import PHASES, Sample, typical, usual_total
from .terminal import duration

if TYPE_CHECKING:
    from .probe import Result

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; font: 13px system-ui, sans-serif; }
svg text { fill: currentColor; }
svg line { stroke: currentColor; opacity: .2; }
table { border-collapse: collapse; margin: 1.5rem 0; }
th, td { text-align: right; padding: .2rem .8rem; border-bottom: 1px solid #8885; }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left; }
i { display: inline-block; width: .8rem; height: .8rem; margin-right: .5rem; }
"""
# Of the drawing, in its own units.
_WIDTH, _LABEL, _END, _ROW, _BAR, _TOP = 960, 70, 80, 30, 20, 24
_TICKS = 5


def page(result: "Result") -> str:
    from .probe import about

    title = escape(result.call.shown)
    paragraphs = "\n".join(f"<p>{escape(text)}</p>" for text in result.words)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p>{escape(about(result.cold))}</p>
{_drawing(result.samples)}
{_table(result)}
{paragraphs}
</body>
</html>
"""


def _drawing(samples: List[Sample]) -> str:
    longest = max(sample.total for sample in samples)
    height = _TOP + _ROW * len(samples)
    room = _WIDTH - _LABEL - _END
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="waterfall of the calls">'
    ]
    for tick in range(_TICKS + 1):
        x = _LABEL + room * tick / _TICKS
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{height}"/>')
        parts.append(
            f'<text x="{x:.1f}" y="12" text-anchor="middle">'
            f"{duration(longest * tick / _TICKS) if tick else '0'}</text>"
        )
    for number, sample in enumerate(samples):
        parts += _row(sample, _TOP + number * _ROW, room / longest)
    return "\n".join([*parts, "</svg>"])


def _row(sample: Sample, top: int, scale: float) -> List[str]:
    middle = top + _BAR // 2 + 5
    parts = [f'<text x="0" y="{middle}">{escape(sample.label)}</text>']
    x = float(_LABEL)
    for phase in PHASES:
        seconds = sample.phases.get(phase.name)
        if seconds is None:
            continue
        parts.append(
            f'<rect x="{x:.2f}" y="{top}" width="{seconds * scale:.2f}" height="{_BAR}" '
            f'fill="{phase.shade}"><title>{phase.name} {duration(seconds)}</title></rect>'
        )
        x += seconds * scale
    parts.append(f'<text x="{x + 6:.2f}" y="{middle}">{duration(sample.total)}</text>')
    return parts


def _table(result: "Result") -> str:
    from .probe import first_byte

    usual = typical(result.warm)
    rows = [
        "<tr><th>phase</th><th>cold</th><th>warm, median</th><th>what it is</th></tr>",
    ]
    for phase in PHASES:
        cold, warm = result.cold.phases.get(phase.name), usual.get(phase.name)
        if cold is not None or warm is not None:
            swatch = f'<i style="background:{phase.shade}"></i>'
            rows.append(_cells(swatch + phase.name, cold, warm, phase.what))
    rows.append(_cells("total", result.cold.total, usual_total(result.warm), ""))
    rows.append(
        _cells("first byte", result.cold.first_byte, first_byte(result.warm), "since the beginning")
    )
    return "<table>\n" + "\n".join(rows) + "\n</table>"


def _cells(name: str, cold: Optional[float], warm: Optional[float], what: str) -> str:
    times = ["-" if seconds is None else duration(seconds) for seconds in (cold, warm)]
    return f"<tr><td>{name}</td><td>{times[0]}</td><td>{times[1]}</td><td>{what}</td></tr>"
