"""docs/migration.md puts in the place of others' knobs what there is here."""

import inspect
import re
from pathlib import Path

import pytest

import llmpool
import llmpool.mock

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "migration.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="outside the repository")

TAKERS = (
    llmpool.Pool, llmpool.Client, llmpool.request, llmpool.Limits, llmpool.Timeout, llmpool.Retry
)  # fmt: skip
OWNERS = {
    "llmpool": [llmpool],
    "client": [llmpool.Client, llmpool.AsyncClient],
    "response": [llmpool.Response, llmpool.StreamResponse, llmpool.AsyncStreamResponse],
}
WORDS = {"None", "True", "False"}


def has(owners, name):
    return any(hasattr(owner, name) for owner in owners)


def unknown_in_python(text):
    for owner, name in re.findall(r"\b(llmpool|client|response)\.(\w+)", text):
        if not has(OWNERS[owner], name):
            yield f"{owner}.{name}"
    for name in re.findall(r"(?<![.\w])(\w+)\(", text):
        if not has([llmpool, *OWNERS["response"]], name):
            yield f"{name}()"
    for name in re.findall(r"(?<![.\w])([A-Z]\w+)\b", text):
        if name not in WORDS and not hasattr(llmpool, name):
            yield name
    call = re.match(r"([A-Z]\w+)\(", text)  # whose arguments they are
    takers = [getattr(llmpool, call[1])] if call and hasattr(llmpool, call[1]) else TAKERS
    for name in re.findall(r"(\w+)=", text):
        if not any(name in inspect.signature(taker).parameters for taker in takers):
            yield f"{name}="


def unknown_in_c(text):
    header = (ROOT / "include" / "llmpool.h").read_text()
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    for name in re.findall(r"\w{3,}", text.replace("llmpool.h", "")):
        if not re.search(rf"\b{name}\b", header):
            yield name


def unknown_in_swift(text):
    sources = "".join(path.read_text() for path in (ROOT / "Sources" / "LLMPool").glob("*.swift"))
    for name in re.findall(r"\b[A-Za-z]\w*(?!\w*:)", text):
        if not re.search(
            rf"\bpublic (?:\w+ )*(?:class|struct|enum|var|let|func|typealias) {name}\b", sources
        ):
            yield name


LANGUAGES = {"libcurl": unknown_in_c, "async-http-client": unknown_in_swift}


def told(page):
    """(from what, what stands in backticks in the column of ours)"""
    for section in re.split(r"^## ", page, flags=re.M)[1:]:
        before, _, text = section.partition("\n")
        for row in re.findall(r"^\| (?!---)(.*) \|$", text, re.M):
            yield from ((before, name) for name in re.findall(r"`([^`]+)`", row.split(" | ")[1]))


def test_what_the_page_names_is_there():
    names = list(told(PAGE.read_text()))
    assert len(names) > 50 and {"libcurl", "async-http-client", "requests"} <= {
        of for of, _ in names
    }
    unknown = {
        (before, text): found
        for before, text in names
        if (found := list(LANGUAGES.get(before, unknown_in_python)(text)))
    }
    assert unknown == {}


@pytest.mark.parametrize(
    "before, text, found",
    [
        ("aiohttp", "Limits(max_connection=100)", ["max_connection="]),
        ("aiohttp", "Clientele()", ["Clientele()", "Clientele"]),
        ("aiohttp", "response.iter_events()", ["response.iter_events"]),
        ("libcurl", "llmpool_perform_all()", ["llmpool_perform_all"]),
        ("async-http-client", "Options.keepAlive", ["keepAlive"]),
    ],
)
def test_what_is_not_there_is_found(before, text, found):
    assert list(LANGUAGES.get(before, unknown_in_python)(text)) == found
