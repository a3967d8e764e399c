"""python -m llmpool probe: the phases add up, every one is shown, and no key is."""

import json
import os
import re
import subprocess
import sys
from functools import partial
from html.parser import HTMLParser

import pytest
import servers

from llmpool import Timings
from llmpool._command import phases
from llmpool._command.call import header_of

KEY = "sk-hidden-0123456789abcdef"
CHAT = json.dumps({"model": "gpt-mock", "messages": [{"role": "user", "content": "hi"}]})
STREAM = CHAT[:-1] + ', "stream": true}'
NEW = ["name", "TCP", "TLS", "queue", "send", "wait", "head", "stream", "Python"]


@pytest.fixture
def probe(command):
    return partial(command, "probe")


@pytest.fixture
def chat(call_of):
    return call_of("/v1/chat/completions")


class Text(HTMLParser):
    """What a reader of the page sees, and what it would fetch."""

    def __init__(self, page):
        super().__init__()
        self.words, self.bars, self.fetched, self._within = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self._within.append(tag)
        values = dict(attributes)
        self.fetched += [values[name] for name in ("src", "href") if name in values]
        if tag == "rect":
            self.bars.append(values)
        if tag in ("meta", "line", "rect") and tag != "rect":
            self._within.pop()

    def handle_endtag(self, tag):
        while self._within and self._within.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self._within:
            self.words.append(data)


def test_phases_add_up():
    times = Timings(
        admitted=0.062, resolved=0.01, connected=0.03, secured=0.06, sent=0.063, first_byte=0.163,
        first_data=0.163, done=0.263,
    )  # fmt: skip
    parts = phases.phases_of(times, 0.264)
    assert list(parts) == NEW and sum(parts.values()) == pytest.approx(0.264)
    assert parts["TLS"] == pytest.approx(0.03) and parts["wait"] == pytest.approx(0.1)
    # On an open connection; and an answer that was there before all was sent.
    warm = Timings(admitted=0.001, sent=0.2, first_byte=0.1, first_data=0.1, done=0.3)
    parts = phases.phases_of(warm, 0.3)
    assert list(parts) == NEW[3:] and min(parts.values()) >= 0
    assert sum(parts.values()) == pytest.approx(0.3)


def sample(label="warm 1", reused=True, **parts):
    total = sum(parts.values())
    return phases.Sample(
        label, 200, "HTTP/2", "192.0.2.1:443", reused, parts, total / 2, total, 10, None, ""
    )


@pytest.mark.parametrize(
    "cold, warm, said",
    [
        ({"name": 0.2, "TCP": 0.02, "wait": 0.1}, {"wait": 0.1}, "llmpool.warm(url)"),
        ({"name": 0.2, "TCP": 0.02, "wait": 0.1}, {"wait": 0.1}, "Looking up the name takes"),
        ({"TCP": 0.01, "TLS": 0.2}, {"wait": 0.1}, "slow to shake hands"),
        ({"wait": 1.0}, {"wait": 1.0, "Python": 0.01}, "prompt cache"),
        ({"TCP": 0.05, "wait": 0.055}, {"wait": 0.055}, "one round trip"),
        ({"wait": 0.1}, {"head": 1.0, "wait": 0.1}, "first data"),
        ({"wait": 0.1}, {"stream": 1.0, "wait": 0.1}, "max_tokens"),
        ({"wait": 0.1}, {"send": 1.0, "wait": 0.1}, "sending the request"),
        ({"wait": 0.1}, {"queue": 1.0, "wait": 0.1}, "max_connections"),
        ({"wait": 0.1}, {"Python": 0.02, "wait": 0.01}, "orjson"),
        ({"wait": 0.1}, {"Python": 0.02, "wait": 0.1}, "Python adds"),
    ],
)
def test_words(cold, warm, said):
    text = " ".join(phases.words(sample("cold", False, **cold), [sample(**warm)], True))
    assert said in text, text


def test_words_on_connections_and_errors():
    cold = sample("cold", False, wait=0.1)._replace(http_version="HTTP/1.1", status=401, said="No.")
    text = " ".join(phases.words(cold, [sample(reused=False, wait=0.1)], True))
    assert "1 of 1 warm calls found no open connection" in text
    assert "The server speaks HTTP/1.1" in text and "the times of an error: No." in text
    warm = [sample(wait=0.1), sample(wait=0.1)._replace(status=429, said="Slow down")]
    text = " ".join(phases.words(sample("cold", False, wait=0.1), warm, True))
    assert "1 of 2 warm calls ended with an error: Slow down." in text
    # To a proxy it is a round trip, to the server behind it nobody knows.
    near = sample("cold", False, TCP=0.05, wait=0.055), [sample(wait=0.055)], True
    assert "one round trip" in " ".join(phases.words(*near))
    assert "one round trip" not in " ".join(phases.words(*near, is_proxied=True))
    fine = " ".join(phases.words(sample("cold", False, wait=0.1), [sample(wait=0.1)], True))
    assert "HTTP/1.1" not in fine and "open connection" not in fine


def test_a_page_that_cannot_be_written_costs_nothing(probe, chat, mock, tmp_path):
    before = servers.Calls(mock)
    page = tmp_path / "none" / "page.html"
    status, output, errors = probe(*chat, "--data", CHAT, "--html", page)
    assert (status, output) == (2, "") and "page.html" in errors
    assert before.since()["calls"] == 0


def test_what_was_measured_before_a_failure_is_shown(probe):
    def handle(connection, _):
        rest = b""
        for _ in range(3):
            _, _, rest = servers.read_request(connection, rest)
            servers.answer(connection)
        servers.read_request(connection, rest)

    with servers.RawServer(handle) as server:
        status, output, errors = probe(server.url, "--json", "--warm", 5)
    assert status == 1 and "warm 3" in errors
    assert [call["label"] for call in json.loads(output)["calls"]] == ["cold", "warm 1", "warm 2"]


def test_a_call_and_its_phases(probe, chat, mock):
    before = servers.Calls(mock)
    status, output, errors = probe(*chat, "--data", CHAT, "--warm", 3, "--json")
    assert (status, errors) == (0, "")
    result = json.loads(output)
    assert [call["label"] for call in result["calls"]] == ["cold", "warm 1", "warm 2", "warm 3"]
    cold, *warm = result["calls"]
    assert list(cold["phases_ms"]) == NEW
    assert not cold["reused"] and all(call["reused"] for call in warm)
    for call in result["calls"]:
        assert call["status"] == 200 and call["http_version"] == "HTTP/2" and call["size"] > 0
        assert sum(call["phases_ms"].values()) == pytest.approx(call["total_ms"], abs=0.02)
        assert call["first_byte_ms"] <= call["total_ms"]
    assert set(result["warm_median_ms"]) == set(NEW[3:]) and result["words"]
    counted = before.since()
    paths = {path: count for path, count in counted["paths"].items() if count}
    assert counted["calls"] == 4 and paths == {"POST /v1/chat/completions": 4}


def test_the_screen(probe, chat):
    status, output, _ = probe(*chat, "--data", STREAM)
    assert status == 0 and "\033" not in output and "sk-" not in output
    lines = output.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("POST https://127.0.0.1") and re.search(r"[1-9]\d* events", lines[1])
    assert lines[3].startswith("cold") and lines[8].startswith("warm 5")
    for name in (*NEW, "first byte", "total"):
        assert re.search(rf"^. {name} .*\d+(\.\d+)? (us|ms|s)", output, re.M), name


def test_the_page(probe, chat, tmp_path):
    file = tmp_path / "page.html"
    status, _, _ = probe(*chat, "--data", STREAM, "--html", file, "--warm", 2)
    assert status == 0
    page = file.read_text()
    seen = Text(page)
    words = " ".join(" ".join(seen.words).split())
    for name in (*NEW, "first byte", "total", "cold", "warm 1", "warm 2", "what Python adds"):
        assert name in words, name
    assert "POST https://127.0.0.1" in words and "mock-key" not in page
    assert not seen.fetched and "<script" not in page and "@import" not in page
    assert len(seen.bars) == len(NEW) + 2 * len(NEW[3:])
    ends = [float(bar["x"]) + float(bar["width"]) for bar in seen.bars]
    assert max(ends) <= 960 and all(float(bar["width"]) >= 0 for bar in seen.bars)


@pytest.mark.skipif(not os.environ.get("LLMPOOL_LONG_TESTS"), reason="the long form alone")
def test_the_page_in_a_browser(probe, chat, tmp_path):
    file = tmp_path / "page.html"
    assert probe(*chat, "--html", file, "--data", CHAT)[0] == 0
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000",
         f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", file.as_uri()],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    words = " ".join(" ".join(Text(done.stdout).words).split())
    for name in (*NEW, "first byte", "total"):
        assert name in words, name


def test_a_wrong_key_is_said_and_not_shown(probe, mock, monkeypatch, tmp_path):
    monkeypatch.setenv("WRONG_KEY", KEY)
    page = tmp_path / "page.html"
    arguments = [
        f"{mock.url}/v1/models?key={KEY}", "--ca-file", mock.ca_file, "--html", page,
        "--header", "authorization: Bearer ${WRONG_KEY}",
    ]  # fmt: skip
    for more in ([], ["--json"]):
        status, output, errors = probe(*arguments, *more)
        assert status == 1 and "401" in output and "times of an error" in " ".join(output.split())
        assert KEY not in output + errors + page.read_text()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["ftp://localhost/"], "scheme"),
        (["http://localhost:1/", "--header", "x"], "--header"),
        (["http://localhost:1/", "--header", f"authorization: Bearer {KEY}"], "single quotes"),
        (["http://localhost:1/", "--header", "x-api-key: $NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE"),
        (["http://localhost:1/", "--header", "x-api-key: @/no/such/file"], "/no/such/file"),
        (["http://localhost:1/", "--data", "@/no/such/file"], "/no/such/file"),
        (["http://localhost:1/", "--ca-file", "/no/such/file"], "/no/such/file"),
    ],
)
def test_what_cannot_be_called(probe, arguments, said):
    status, output, errors = probe(*arguments)
    assert status == 2 and not output
    assert said in errors and KEY not in errors and errors.startswith("llmpool probe: ")


def test_nobody_answers(probe):
    status, output, errors = probe(f"http://127.0.0.1:{servers.free_port()}/", "--timeout", "5")
    assert status == 1 and not output and "127.0.0.1" in errors


def test_what_a_server_says_again_is_not_shown(probe, monkeypatch, tmp_path):
    """Whatever name it went out by."""
    monkeypatch.setenv("ODD", " plain words ")
    (tmp_path / "file").write_text("open sesame\n")

    def handle(connection, _):
        rest = b""
        while True:
            head, _, rest = servers.read_request(connection, rest)
            said = b" and ".join(re.findall(rb"x-odd: (.*)\r\n", head)).decode()
            body = json.dumps({"error": {"message": f"no {said}"}}).encode()
            servers.answer(connection, body, b"content-type: application/json\r\n", b"400 Bad")

    with servers.RawServer(handle) as server:
        for more in ([], ["--json"]):
            status, output, errors = probe(
                server.url, "--warm", "1", "--header", "x-odd: $ODD",
                "--header", f"x-odd: @{tmp_path}/file", *more,
            )  # fmt: skip
            assert status == 1 and "[secure]" in output
            assert "plain words" not in output + errors and "sesame" not in output + errors


def test_headers(monkeypatch, tmp_path):
    monkeypatch.setenv("NAME", KEY)
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert header_of("authorization: Bearer $NAME") == ("authorization", f"Bearer {KEY}")
    assert header_of(f"authorization: Bearer @{tmp_path}/key") == (
        "authorization",
        f"Bearer {KEY}",
    )
    assert header_of(f"x-api-key:@{tmp_path}/key") == ("x-api-key", KEY)
    assert header_of("x-price: $$5, me@example.com") == ("x-price", "$5, me@example.com")
    assert header_of("x-trace: ${NAME}-1") == ("x-trace", f"{KEY}-1")


def test_ctrl_c(tmp_path):
    """Within a call: no traceback, and the status that a shell gives."""
    import signal
    import threading

    there = threading.Event()

    def handle(connection, _):
        servers.read_request(connection)
        there.set()
        connection.recv(1)  # until the client leaves

    with servers.RawServer(handle) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "llmpool", "probe", server.url],
            env={**os.environ, "PYTHONPATH": servers.python_path()},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert there.wait(60)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (130, "", "llmpool probe: stopped\n")
