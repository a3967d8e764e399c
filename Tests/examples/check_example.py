#!/usr/bin/env python3
"""check_example.py PYTHON NAME PROGRAM - runs an example against the mock LLM and checks what it prints.

PYTHON is the interpreter that has libllmpool[mock]; LLMPOOL_TEST_PYTHON names another, which then must exist. Without
one the test is skipped: exit status 77.
"""

import os
import re
import socket
import subprocess
import sys
import threading
import time

SKIPPED = 77
LIMIT = 60  # seconds, of one run
CHAT = "/v1/chat/completions"
KEY = "mock-key"
TOKENS, PER_SECOND, TTFT = 20, 40, 0.1


def enter(python, script):
    """Goes on as a process of the interpreter that can start the mock."""
    wanted = os.environ.get("LLMPOOL_TEST_PYTHON")
    python = wanted or python
    if not (wanted or os.path.exists(python)):
        print(f"skipped: no {python} to start the mock LLM with; scripts/venv build/venv test makes it")
        sys.exit(SKIPPED)
    os.execve(python, [python, script, "--inside", *sys.argv[2:]], {**os.environ, "PYTHONNOUSERSITE": "1"})


class Mock:
    """A mock LLM with a certificate of its own, and a program that trusts it as OpenSSL's programs do."""

    def __init__(self, program):
        from llmpool.mock import MockServer

        self.program = program
        self.server = MockServer(
            api_key=KEY, tokens=TOKENS, tokens_per_second=PER_SECOND, ttft=TTFT, max_seconds=2 * LIMIT
        )

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop()

    def run(self, path, *arguments, url=None):
        """Exit status, the lines it printed with the time of each, what it complained of."""
        process = subprocess.Popen(
            [self.program, (url or self.server.url) + path, *map(str, arguments)], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "SSL_CERT_FILE": self.server.ca_file},
        )  # fmt: skip
        watchdog = threading.Timer(LIMIT, process.kill)
        watchdog.start()
        try:
            lines = [(time.monotonic(), line.rstrip("\n")) for line in process.stdout]
            problem = process.stderr.read()
            status = process.wait()
        finally:
            process.kill()
            watchdog.cancel()
        print(f"{status}: {lines[-1][1] if lines else ''} {problem.strip()}")
        return status, lines, problem


def refused(mock):
    """What each does where nobody listens, and without arguments."""
    with socket.socket() as bound:  # bound and not listening: nobody else gets the port meanwhile
        bound.bind(("127.0.0.1", 0))
        status, _, problem = mock.run(CHAT, 2, url=f"http://127.0.0.1:{bound.getsockname()[1]}")
    assert status == 1 and "E_CONNECT" in problem, (status, problem)
    done = subprocess.run([mock.program], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 2 and done.stderr.startswith("usage: "), done


def check_blocking(mock):
    status, lines, problem = mock.run(CHAT, KEY, "gpt-mock")
    assert status == 0 and not problem
    assert re.match(r'200 after [\d.]+ ms: \{.*"content":\s*"The pool keeps', lines[0][1]), lines
    status, lines, _ = mock.run(CHAT, "another-key", "gpt-mock")
    assert status == 0 and lines[0][1].startswith("401 after "), lines


def check_epoll(mock):
    # It sends no key: every answer is an error of the application's, and each was given.
    before = mock.server.stats()["calls"]
    status, lines, problem = mock.run("/v1/models", 100)
    assert status == 1 and problem.count("LLMPOOL_OK, HTTP 401") == 100, problem
    assert lines[-1][1] == "100 requests, 100 failed, over 1 connections", lines
    assert mock.server.stats()["calls"] == before + 100
    status, lines, problem = mock.run("/_mock/stats", 500)
    assert status == 0 and not problem
    assert re.fullmatch(r"500 requests, 0 failed, over [1-9] connections", lines[-1][1]), lines


def check_span(mock):
    before = time.time_ns()
    status, lines, problem = mock.run(f"{CHAT}?key=a-secret", KEY, f"00-{'a' * 32}-{'b' * 16}-01")
    assert status == 0 and not problem
    head, *rest = [text for _, text in lines]
    begin, end = map(int, re.fullmatch(r"POST, kind CLIENT, status UNSET, from (\d+) to (\d+)", head).groups())
    assert before < begin < end < time.time_ns() and end - begin >= TTFT * 1e9, head
    events = [text.split() for text in rest if text.startswith("  event ")]
    names = [name for _, name, _, _ in events]
    assert names == [f"llmpool.{name}" for name in ("connected", "admitted", "sent", "first_byte")], rest
    assert all(begin <= int(at) <= end for _, _, _, at in events), rest
    port = int(mock.server.url.rpartition(":")[2])
    assert [text for text in rest if not text.startswith("  event ")] == [
        "  http.request.method = POST", f"  server.address = {mock.server.url.split('/')[2].partition(':')[0]}",
        f"  server.port = {port}", f"  url.full = {mock.server.url}{CHAT}", "  http.response.status_code = 200",
        "  network.protocol.version = 2",
    ], rest  # fmt: skip
    status, lines, _ = mock.run(CHAT, "another-key")
    texts = [text for _, text in lines]
    assert status == 0 and ", status ERROR, " in texts[0] and "  error.type = 401" in texts, texts


def check_stream_sse(mock):
    status, lines, problem = mock.run(CHAT, KEY, "gpt-mock")
    assert status == 0 and not problem
    times, texts = zip(*lines)
    events = texts[:-1]
    # The mock's first event names the role, the last one the reason; "[DONE]" is not printed.
    assert len(events) == TOKENS + 2 and all(text.startswith("{") for text in events), texts
    assert times[-2] - times[0] > TOKENS / PER_SECOND / 5, "the tokens are to come one by one"
    figures = re.fullmatch(r"(\d+) tokens, the first after ([\d.]+) ms, the end after ([\d.]+) ms", texts[-1])
    first, end = float(figures[2]) / 1000, float(figures[3]) / 1000
    assert int(figures[1]) == len(events) and TTFT <= first < end, texts[-1]
    assert end >= TTFT + (TOKENS - 1) / PER_SECOND and first < end - TOKENS / PER_SECOND / 5, texts[-1]
    after = mock.server.stats()
    assert after["streams"] == 0 and after["left"] == 0, "the answer was read to its end"
    status, lines, problem = mock.run(CHAT, "another-key", "gpt-mock")
    assert status == 1 and not lines and problem.startswith("HTTP 401\n") and "Incorrect API key" in problem


def check_swift(mock):
    status, lines, problem = mock.run(CHAT, KEY, "gpt-mock")
    assert status == 0 and not problem
    times, texts = zip(*lines)
    assert re.match(r'200 over HTTP/2: \{.*"content":\s*"The pool keeps', texts[0]), texts
    events = texts[1:-2]
    assert len(events) == TOKENS + 2 and all(text.startswith("{") for text in events), texts
    assert times[-3] - times[1] > TOKENS / PER_SECOND / 5, "the tokens are to come one by one"
    assert re.fullmatch(r"first token after [\d.]+ seconds, the end after [\d.]+ seconds", texts[-2]), texts
    assert texts[-1] == "cancelled after 3 tokens", texts
    # The answer that was cancelled, and no other: the one before was left at its "[DONE]".
    deadline = time.monotonic() + 5
    while mock.server.stats()["streams"] and time.monotonic() < deadline:
        time.sleep(0.01)
    after = mock.server.stats()
    assert after["streams"] == 0 and 1 <= after["left"] <= 2, after
    status, lines, problem = mock.run(CHAT, "another-key", "gpt-mock")
    assert status == 1 and lines[0][1].startswith("401 over HTTP/2: ") and problem == "HTTP 401\n", (lines, problem)


def main():
    if sys.argv[1] != "--inside":
        enter(sys.argv[1], __file__)
    name, program = sys.argv[2:]
    with Mock(program) as mock:
        globals()[f"check_{name}"](mock)
        refused(mock)


if __name__ == "__main__":
    main()
