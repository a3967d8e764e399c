"""From results/*.json: the plots of docs/performance/ and the tables between the marks in docs/performance.md."""

import json

from cases import CASES, HERE

DOCS = HERE.parent / "docs"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def number(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def line(label, client, case):
    middle, least, most = client[case.figure]
    extra = [f"{number(client[name][0])} {what}" for name, what in
             (("per_second", "/s"), ("p50_us", "p50"), ("p99_us", "p99")) if name in client]  # fmt: skip
    return f"{label:28} {number(middle):>9} ({number(least)} - {number(most)}) {case.unit}; {', '.join(extra)}"


def path(name, beside):
    return HERE / "results" / f"{name}{'-beside' if beside else ''}.json"


def verdict(limit, clients, beside=False):
    """The measured ratio (None where it was not), whether the limit is kept (None: it has none), and that in words."""
    at_most = limit.beside if beside else limit.at_most
    if limit.ours == "*" and clients:
        worst = max(clients, key=lambda label: clients[label][limit.figure][0])
        clients = {**clients, "*": clients[worst]}
    if limit.ours not in clients or (limit.peer and limit.peer not in clients):
        return None, None, f"{limit.what}: not measured"
    ratio, unit = clients[limit.ours][limit.figure][0], unit_of(limit)
    if limit.peer is not None:
        peer = clients[limit.peer][limit.figure][0]
        ratio = ratio - peer if limit.difference else ratio / peer
    said = f"{limit.what}: {number(ratio)}{unit} {limit.peer or ''}"
    if at_most is None:
        return ratio, None, said
    reached = ratio <= at_most
    word = "reached" if reached else "NOT reached"
    return ratio, reached, f"{said}, at most {number(at_most)}{unit}: {word}"


def load(beside=False):
    return {name: json.loads(path(name, beside).read_text()) for name in CASES if path(name, beside).exists()}


def limits_table(results, beside):
    rows = ["| work | ours against | at most | measured | | beside a busy loop |", "|---|---|---|---|---|---|"]
    for name, case in CASES.items():
        for limit in case.limits:
            bound = "" if limit.at_most is None else f"{number(limit.at_most)}{unit_of(limit)}"
            cells = [limit.what, limit.peer or "-", bound]
            cells += measured(limit, results.get(name), False)
            cells.append(", ".join(filter(None, measured(limit, beside.get(name), True))))
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def unit_of(limit):
    return " x" if limit.peer and not limit.difference else ""


def measured(limit, result, beside):
    """The figure, and what is to be said of it."""
    if result is None:
        return ["" if beside else "not measured", ""]
    ratio, reached, _ = verdict(limit, result["clients"], beside)
    if ratio is None:
        return ["not measured", ""]
    return [f"**{number(ratio)}{unit_of(limit)}**", {None: "", True: "reached", False: "**not reached**"}[reached]]


def case_table(case, result):
    columns = [("per_second", "per second"), ("p50_us", "p50 us"), ("p90_us", "p90 us"), ("p99_us", "p99 us"),
               ("wall_us", "wall us"), ("rss_kb", "KiB resident"), ("rss_open_kb", "KiB, all open"),
               ("rss_first_kb", "KiB before"), ("max_rss_kb", "KiB at most"), ("max_us", "longest us"),
               ("stream_kb", "KiB a stream"), ("server_late_p99_us", "server late, p99 us"),
               ("fresh_ms", "ms, new client each call"),
               ("once_ms", "ms, first 20 at once"),
               ("each_ms", "ms a call, 20 in turn")]  # fmt: skip
    clients = result["clients"]
    columns = [(key, title) for key, title in columns if any(key in client for client in clients.values())]
    first = [] if case.figure != "cpu_us" and not any("cpu_us" in c for c in clients.values()) else ["cpu_us"]
    titles = ["CPU us (least - greatest)"] if first else []
    rows = ["| | " + " | ".join(titles + [title for _, title in columns]) + " |"]
    rows.append("|---|" + "---|" * (len(titles) + len(columns)))
    for label, client in clients.items():
        cells = []
        for key in first:
            middle, least, most = client[key]
            cells.append(f"{number(middle)} ({number(least)} - {number(most)})")
        cells += [number(client[key][0]) if key in client else "" for key, _ in columns]
        rows.append(f"| {label} | " + " | ".join(cells) + " |")
    rows += [f"\n{label} was skipped: {reason}" for label, reason in result["skipped"].items()]
    return rows


def draw(name, case, result):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "llmpool", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    clients = list(result["clients"].items())[::-1]
    if not clients:
        return
    figure, axes = pyplot.subplots(figsize=(7, 0.6 + 0.32 * len(clients)))
    for index, (label, client) in enumerate(clients):
        middle, least, most = client[case.figure]
        ours = any(word in label for word in ("llmpool", "in flight", "streams", "connections", "origins"))
        colour = "#1b6ca8" if ours else "#b0b7bf"
        axes.barh(index, middle, color=colour, height=0.65)
        axes.errorbar(middle, index, xerr=[[middle - least], [most - middle]], color="#333333", capsize=2, lw=0.8)
        axes.text(most, index, f"  {number(middle)}", va="center")
    axes.set_yticks(range(len(clients)), [label for label, _ in clients])
    axes.set_xlim(0, max(client[case.figure][2] for _, client in clients) * 1.15)
    axes.set_xlabel(case.unit)
    axes.spines[["top", "right"]].set_visible(False)
    (DOCS / "performance").mkdir(exist_ok=True)
    figure.savefig(DOCS / "performance" / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def write():
    results, beside = load(), load(beside=True)
    text = ["", "### Must hold", "", *limits_table(results, beside), ""]
    for name, result in results.items():
        case = CASES[name]
        draw(name, case, result)
        text += [f"### {name}: {case.title}", "", f"{result['machine']['cpu']}, {result['rounds']} rounds.", ""]
        text += [*case_table(case, result), ""]
        if name in beside:
            text += ["Beside a busy loop:", "", *case_table(case, beside[name]), ""]
        text += [f"![{case.title}](performance/{name}.svg)", ""]
    document = DOCS / "performance.md"
    page = document.read_text()
    before, rest = page.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    document.write_text(before + BEGIN + "\n" + "\n".join(text) + "\n" + END + after)
