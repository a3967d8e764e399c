"""What is declared once is nowhere as it was before, and the pages made of it can be read."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmpool._http import constants
from llmpool._native.failures import BY_STATUS

ROOT = Path(__file__).resolve().parents[3]
HEADER = ROOT / "include" / "llmpool.h"
MANUAL = ROOT / "docs" / "man"
PAGES = sorted(MANUAL.glob("man3/*.3"))
DOCS = ROOT / "docs"


def extract(*arguments):
    command = [sys.executable, ROOT / "scripts" / "extract", "--check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "Traceback" not in done.stderr or "HeaderError" in done.stderr, done.stderr
    return done.returncode, done.stderr


def test_nothing_is_stale():
    assert extract() == (0, "")


@pytest.mark.parametrize(
    "old, new, said",
    [
        # What it does not understand it refuses.
        ("uint32_t retry_backoff_ms;", "uint32_t retry_backoff_ms[2];", "retry_backoff_ms[2]"),
        ("LLMPOOL_HTTP_2 = 2,", "LLMPOOL_HTTP_2,", "LLMPOOL_HTTP_2"),
        ("uint32_t connections);", "uint32_t *connections[]);", "connections[]"),
        ("uint32_t hedge_percent; ", "uint32_t hedge_share; ", "hedge_share"),  # no such in Python
        ("/* Fills in the defaults of the running library. */\n", "", "options_init() without a"),
        ("/* The counters of a pool, or of one origin. */\n", "", "llmpool_stats without a"),
        ("/* ---- pool -", "/* Of nothing. */\n\n/* ---- pool -", "a comment of nothing"),
        # What has changed is stale wherever it is.
        ("/* [100] open", "/* [90] open", "docs/c.md docs/options.md man3/llmpool_options_t.3"),
        ('-46, "connection lost', '-46, "it was lost', "constants.py docs/c.md llmpool_status_t.3"),
        ("uint64_t hedges_won;", "uint64_t won;", "abi.py stats.py Layout.swift llmpool_stats_t.3"),
        ("[fast] Opens connections", "[fast] Dials", "docs/c.md llmpool_warm.3 man3/llmpool.3"),
    ],
)
def test_a_change_of_the_header_is_noticed(old, new, said, tmp_path):
    text = HEADER.read_text()
    assert text.count(old) == 1
    changed = tmp_path / "llmpool.h"
    changed.write_text(text.replace(old, new))
    status, found = extract("--header", changed)
    assert status == 1 and all(each in found for each in ([said] if "()" in said else said.split()))


def test_no_page_of_something_that_is_gone():
    declared = set(re.findall(r"\b(llmpool_\w+)\(", HEADER.read_text()))
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
        name = page.read_text().splitlines()[3]
        assert re.fullmatch(rf"{page.stem} \\- \S.{{5,120}}[^.]", name), name


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_the_c_reference_has_the_headers_prototypes(tmp_path):
    blocks = re.findall(r"^```c\n(.*?)^```$", (DOCS / "c.md").read_text(), re.M | re.S)
    declared = re.findall(
        r"\b(llmpool_\w+)\(", re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)
    )
    assert [re.search(r"(llmpool_\w+)\(", block)[1] for block in blocks] == declared
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
        kind = BY_STATUS.get(getattr(constants, name))
        assert kind is None or f"`{kind.__name__}`" in raised, name
