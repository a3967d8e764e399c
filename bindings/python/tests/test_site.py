"""The site: built without a warning, nothing leads nowhere, and its search answers strangers."""

import json
import os
import posixpath
import queue
import shutil
import subprocess
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import processes
import pytest

import llmpool

for module in ("properdocs", "properdocs_theme_mkdocs", "mkdocstrings_handlers.python", "lunr"):
    pytest.importorskip(module, reason="needs the extras docs and test of libllmpool")

ROOT = Path(__file__).resolve().parents[3]

QUESTIONS = [
    ("how many connections?", "sizing"),
    ("which timeout fired and why?", "timeouts"),
    ("is my key logged?", "faq"),
    ("can I fork?", "processes"),
    ("what happens at exit?", "processes"),
    ("does it retry my POST?", "retries"),
    ("how do I see leaks?", "monitoring"),
    ("proxy?", "proxies"),
    ("custom CA?", "proxies"),
    ("why is it slow?", "seeing"),
]
SHOWN = 3  # of what is found, the first that are looked at


def build(root, directory):
    """What was said of it, and whether it was built."""
    command = [sys.executable, "-m", "properdocs", "build", "--strict", "--site-dir", directory]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    return done.stdout + done.stderr, done.returncode == 0


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    directory = tmp_path_factory.mktemp("site")
    said, is_built = build(ROOT, directory)
    assert is_built and "WARNING" not in said, said
    return directory


class Page(HTMLParser):
    """Where a page leads to, what it loads, and what can be led to in it."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.anchors = set(), set(), {"", "_"}
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        for name in ("href", "src"):
            if given.get(name):
                (self.links if tag == "a" else self.loads).add(given[name])


def test_nothing_leads_nowhere(site):
    pages = {path.relative_to(site).as_posix(): Page(path) for path in site.rglob("*.html")}
    assert {"index.html", "timeouts.html", "repository/include/llmpool.h.html"} <= set(pages)
    for here, page in pages.items():
        if here == "404.html":  # is served under any path, so that its links are absolute
            continue
        for link in page.links | page.loads:
            scheme, host, path, _, fragment = urlsplit(link)
            if scheme or host:
                assert scheme in ("https", "mailto") and link in page.links, f"{here} loads {link}"
                continue
            there = posixpath.normpath(posixpath.join(posixpath.dirname(here), unquote(path)))
            there = there if path else here
            assert (site / there).is_file(), f"{here} leads to {link}"
            if there in pages:
                assert unquote(fragment) in pages[there].anchors, f"{here} leads to {link}"


def test_python_reference_is_whole(site):
    anchors = Page(site / "reference/python.html").anchors
    missing = {name for name in llmpool.__all__ if f"llmpool.{name}" not in anchors}
    assert missing == {"__version__"}
    assert {"llmpool.Client.stream", "llmpool.AsyncClient.post"} <= anchors


def test_what_is_wrong_is_said(tmp_path):
    """Pages with one fault each, of which every one is told."""
    for path in ROOT.iterdir():
        if path.name not in ("docs", "build"):
            (tmp_path / path.name).symlink_to(path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    planted = {
        "link.md": "[a](nowhere.md)\n",
        "anchor.md": "[a](timeouts.md#nothing)\n",
        "outside.md": "[a](../examples/nothing.c)\n",
        "list.md": "A list:\n- that is text\n",
    }
    for name, text in planted.items():
        (tmp_path / "docs" / name).write_text(f"# A page\n\n{text}")
    said, is_built = build(tmp_path, tmp_path / "site")
    assert not is_built
    for fault in (
        "'link.md' contains a link 'nowhere.md'",
        "'anchor.md' contains a link 'timeouts.md#nothing'",
        "'outside.md' contains a link '../examples/nothing.c'",
        "list.md: a list without an empty line before it",
        'not included in the "nav" configuration',
    ):
        assert fault in said, said
    assert said.count("WARNING") == 5, said


@pytest.fixture(scope="module")
def found(site):
    """What the site's search shows for a question: search/worker.js does the same in a browser."""
    from lunr.index import Index

    index = Index.load(json.loads((site / "search/search_index.json").read_text())["index"])
    return lambda question: [result["ref"] for result in index.search(question)]


@pytest.mark.parametrize("question, answers", QUESTIONS, ids=[each for each, _ in QUESTIONS])
def test_a_stranger_finds_the_page(found, question, answers):
    shown = found(question)[:SHOWN]
    pages = {location.partition("#")[0] for location in shown}
    assert pages & {f"{answer}.html" for answer in answers.split()}, shown


ASKING = """<script>
const worker = new Worker("search/worker.js");
worker.onmessage = ({data}) => {
  if (data.allowSearch) worker.postMessage({query: QUESTION});
  const found = (data.results || []).map(each => each.location);
  if (data.results) fetch("/found?" + encodeURIComponent(JSON.stringify(found)));
};
worker.postMessage({init: true});
</script>"""


@pytest.mark.skipif(not os.environ.get("LLMPOOL_LONG_TESTS"), reason="the long form alone")
def test_a_browser_finds_the_same(site, found, tmp_path):
    question = "does it retry my POST?"
    told = queue.Queue()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            path, _, query = self.path.partition("?")
            if path == "/found":
                told.put(json.loads(unquote(query)))
            super().do_GET()

        def log_message(self, *_):
            pass

    (site / "asking.html").write_text(ASKING.replace("QUESTION", json.dumps(question)))
    handler = partial(Handler, directory=site)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        # With a debugger's port it stays: without, it ends before workers have done anything.
        browser = subprocess.Popen(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
             f"--user-data-dir={tmp_path}", f"http://127.0.0.1:{server.server_port}/asking.html"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert told.get(timeout=120)[:10] == found(question)[:10]
        finally:
            processes.end(browser, 30)
            server.shutdown()


@pytest.mark.skipif(not os.environ.get("LLMPOOL_LONG_TESTS"), reason="the long form alone")
def test_the_command(tmp_path):
    """scripts/site, with what it installs itself, of the tree as it is."""
    ignored = shutil.ignore_patterns("__pycache__")
    for path in ROOT.iterdir():
        if path.name in ("docs", "scripts"):
            shutil.copytree(path, tmp_path / path.name, ignore=ignored)
        elif path.is_file():
            shutil.copy(path, tmp_path)
        elif path.name[0] != "." and not path.name.startswith("build"):
            (tmp_path / path.name).symlink_to(path)
    done = subprocess.run(
        ["scripts/site"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "build/site/c.html").is_file()


def test_what_is_found_are_pages(found):
    places = {location.partition("#")[0] for location in found("llmpool_submit getenv")}
    assert "c.html" in places
    assert not {place for place in places if place.startswith("repository/examples")}
