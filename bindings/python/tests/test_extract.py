"""What is declared once is nowhere as it was before, and the pages made of it can be read."""

import builtins
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import llmpool
from llmpool._http import constants, exceptions
from llmpool._native.failures import BY_STATUS

ROOT = Path(__file__).resolve().parents[3]
HEADER = ROOT / "include" / "llmpool.h"
MANUAL = ROOT / "docs" / "man"
PAGES = sorted(MANUAL.glob("man3/*.3"))
DOCS = ROOT / "docs"
CODE = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S) if HEADER.exists() else ""
FUNCTIONS = re.findall(r"\b(llmpool_\w+)\(", CODE)
pytestmark = pytest.mark.skipif(not CODE, reason="outside the repository")


def extract(*arguments):
    command = [sys.executable, ROOT / "scripts" / "extract", "--check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


def test_nothing_is_stale():
    assert extract() == (0, "")


INIT = "/* Fills in the defaults of the running library. */\n"
PHASES = "enum { /* llmpool_inflight_t.phase */"


CHANGES = [
    # What it does not understand it refuses.
    ("uint32_t retry_backoff_ms;", "uint32_t retry_backoff_ms[2];", "retry_backoff_ms[2]"),
    ("uint32_t retry_backoff_ms;", "uint16_t retry_backoff_ms;", "type", "uint16_t"),
    ("LLMPOOL_HTTP_2 = 2,", "LLMPOOL_HTTP_2,", "LLMPOOL_HTTP_2"),
    ("uint32_t connections);", "uint32_t *connections[]);", "connections[]"),
    ("uint32_t hedge_percent; ", "uint32_t hedge_share; ", "hedge_share has no name in Swift"),
    ("/* [20] idle", "/* idle", "max_keepalive_connections has no default"),
    ("X(E_TLS, -43,", "X(E_TLS, -42,", "two statuses have one value"),
    ("/* Reads the options", "/* Reads, [fast], the", "[fast] is not at the beginning"),
    # What it could not say well, too.
    (INIT, "", "llmpool_options_init without a comment"),
    (INIT, INIT + INIT, "a comment of nothing"),
    (INIT, "/* Some:\n * - lists */\n", "of lists there are"),
    ("(llmpool_t *pool, uint32_t drain_ms);", "(llmpool_t *pool, uint32_t drain_ms); /* ! */",
     "a comment beside something"),
    ("/* The counters of a pool, or of one origin. */\n", "", "llmpool_stats without a comment"),
    ("/* ---- pool -", "/* Of nothing. */\n\n/* ---- pool -", "a comment of nothing"),
    (PHASES, PHASES.replace("phase", "fase"), "llmpool_inflight_t.fase, which there is not"),
    (PHASES, "enum {", "PHASE_BUDGET and more: whose values"),
    # What has changed is stale wherever it is.
    ("/* [100] open", "/* [90] open", "docs/c.md", "docs/options.md", "llmpool_options_t.3"),
    ('-46, "connection lost', '-46, "it was lost', "constants.py", "c.md", "llmpool_status_t.3"),
    ("uint64_t hedges_won;", "uint64_t won;", "abi.py", "stats.py", "Layout.swift", "stats_t.3"),
    ("[fast] Opens connections", "[fast] Dials", "c.md", "llmpool_warm.3", "man3/llmpool.3"),
    ("Values are never reused.", "Values stay.", "docs/c.md", "llmpool_status_t.3"),
    ("int llmpool_queue_fd(", "int llmpool_fd(", "c.md", "llmpool_queue_fd.3 is of something"),
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change[1].strip()[:40] or "nothing")
def test_a_change_of_the_header_is_noticed(change, tmp_path):
    old, new, *said = change
    text = HEADER.read_text()
    assert text.count(old) == 1
    changed = tmp_path / "llmpool.h"
    changed.write_text(text.replace(old, new))
    status, found = extract("--header", changed)
    assert status == 1 and all(each in found for each in said), found


def test_a_table_in_swift_that_has_changed_is_noticed(tmp_path):
    for name in ("scripts", "include", "docs", "examples", "Sources", "bindings/python/llmpool"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.so*"))
    counters = tmp_path / "Sources/LLMPoolCore/Counters.swift"
    counters.write_text(counters.read_text().replace('"Dials that failed."', '"Dials in vain."'))
    command = [sys.executable, tmp_path / "scripts/extract"]
    done = subprocess.run([*command, "--check"], capture_output=True, text=True)
    assert done.returncode == 1 and "docs/monitoring.md is not up to date" in done.stderr
    (tmp_path / "docs/man/man3/llmpool_gone.3").touch()
    subprocess.run(command, check=True)
    assert "Dials in vain." in (tmp_path / "docs/monitoring.md").read_text()
    assert not (tmp_path / "docs/man/man3/llmpool_gone.3").exists()


def test_no_page_of_something_that_is_gone():
    declared = set(FUNCTIONS)
    declared |= {f"{name}_t" for name in re.findall(r"typedef struct (\w+) \{", HEADER.read_text())}
    pages = {page.stem for page in PAGES}
    assert pages - declared == {"llmpool", "llmpool_status_t"}


@pytest.mark.skipif(not shutil.which("groff"), reason="no groff")
def test_the_manual_pages_are_well_formed():
    command = ["groff", "-man", "-ww", "-Tutf8", "-rLL=78n", *MANUAL.rglob("*.*")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    shown = re.sub(r"\x1b\[[\d;]*m|.\x08", "", done.stdout)
    for text in (
        "max_connections (uint32_t, default 100)",
        '"name: value\\r\\n" lines',
        "LLMPOOL_E_TLS (-43)",
    ):
        assert text in shown
    for page in PAGES:  # what whatis(1) and apropos(1) find
        name = page.read_text().partition(".SH NAME\n")[2].partition("\n")[0]
        assert re.fullmatch(rf"{page.stem} \\- \S.{{5,90}}[^.]", name), name
    # A name is one word, to be searched for.
    assert re.findall(r"\w*(?:llmpool|E)_\w*\u2010\n", shown) == []


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_the_c_reference_has_the_headers_prototypes(tmp_path):
    blocks = re.findall(r"^```c\n(.*?)^```$", (DOCS / "c.md").read_text(), re.M | re.S)
    assert [re.search(r"(llmpool_\w+)\(", block)[1] for block in blocks] == FUNCTIONS
    source = tmp_path / "reference.c"
    source.write_text("#include <llmpool.h>\n" + "".join(blocks))  # another prototype is an error
    command = ["cc", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{HEADER.parent}", source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_error_has_its_row():
    """In docs/errors.md, which is written by hand."""
    rows = re.findall(r"^\| `(E_\w+)` \| (.*?) \|", (DOCS / "errors.md").read_text(), re.M)
    names = {name.removeprefix("LLMPOOL_") for name in constants.STATUS_NAMES.values()}
    assert sorted(name for name, _ in rows) == sorted(names - {"OK"})
    for name, raised in rows:
        kinds = re.findall(r"`(\w+)`", raised)
        kind = BY_STATUS.get(getattr(constants, name))
        assert kind is None or kind.__name__ in kinds, name
        assert all(hasattr(llmpool, each) or hasattr(builtins, each) for each in kinds)


def test_every_exception_is_on_the_page():
    page = (DOCS / "errors.md").read_text()
    bases = {"HTTPError", "RequestError", "TransportError", "TimeoutException", "NetworkError"}
    bases |= {"ProtocolError", "StreamError", "CloseError"}  # that one is httpx's alone
    missing = {name for name in exceptions.__all__ if f"`{name}`" not in page}
    assert missing <= bases
