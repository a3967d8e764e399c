"""python -m llmpool bench: what is sent, what it costs nobody, and what it says."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from functools import partial

import pytest
import servers

from llmpool._command import bench, load
from llmpool._command.arguments import above_0
from llmpool._command.call import Call
from llmpool._command.main import main
from llmpool._http.urls import URL
from llmpool.mock import MockServer

KEY = "sk-hidden-0123456789abcdef"


@pytest.fixture
def run(command):
    return partial(command, "bench")


@pytest.fixture
def models(call_of):
    return call_of("/v1/models")


def chat(model):
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]})


def test_a_closed_loop(run, models, mock):
    before = servers.Calls(mock)
    status, output, errors = run(*models, "--requests", 60, "--concurrency", 7, "--json")
    assert (status, errors) == (0, "")
    result = json.loads(output)
    assert before.since()["calls"] == 60
    assert (result["loop"], result["requests"], result["sent"]) == ("closed", 60, 60)
    assert result["statuses"] == {"200": 60} and result["failed"] == 0
    assert result["http_versions"] == {"HTTP/2": 60} and result["connections"] == 1
    times = result["latency_ms"]
    ordered = [times[name] for name in ("min", "p50", "p90", "p95", "p99", "p99.9", "max")]
    assert ordered == sorted(ordered) and times["min"] > 0
    assert result["first_byte_ms"]["p50"] <= times["p50"] + 0.001


def test_never_more_in_flight(run):
    now, most, lock = 0, 0, threading.Lock()

    def handle(connection, _):
        nonlocal now, most
        rest = b""
        while True:
            _, _, rest = servers.read_request(connection, rest)
            with lock:
                now += 1
                most = max(most, now)
            threading.Event().wait(0.02)
            with lock:
                now -= 1
            servers.answer(connection)

    with servers.RawServer(handle) as server:
        assert run(server.url, "--requests", 30, "--concurrency", 5)[0] == 0
    assert 2 <= most <= 5


def test_an_open_loop(run, models, mock):
    before = servers.Calls(mock)
    status, output, _ = run(*models, "--rate", 100, "--duration", 0.5, "--json")
    result = json.loads(output)
    assert status == 0 and result["loop"] == "open" and result["rate"] == 100
    assert 1 <= result["sent"] <= 50 and before.since()["calls"] == result["sent"]
    status, output, _ = run(*models, "--rate", 200, "--requests", 20, "--json")
    assert json.loads(output)["sent"] == 20


def test_what_waits_behind_a_slow_answer_counts(run):
    """One connection, whose first answer takes half a second: who is due meanwhile has waited."""

    def handle(connection, _):
        rest, first = b"", True
        while True:
            _, _, rest = servers.read_request(connection, rest)
            if first:
                threading.Event().wait(0.5)
            first = False
            servers.answer(connection)

    with servers.RawServer(handle) as server:
        arguments = ["--rate", 100, "--requests", 20, "--connections", 1, "--json"]
        status, output, _ = run(server.url, *arguments)
    assert status == 0
    # All twenty were due within 0.2 s, and none could be answered before 0.5 s.
    assert json.loads(output)["latency_ms"]["min"] >= 250


def test_retries_count_as_requests(run, monkeypatch):
    with MockServer(retry_after=0) as server:
        monkeypatch.setenv("MOCK_KEY", server.api_key)
        arguments = [
            f"{server.url}/v1/chat/completions", "--ca-file", server.ca_file,
            "--header", "authorization: Bearer $MOCK_KEY", "--requests", 10, "--json",
        ]  # fmt: skip
        status, output, _ = run(*arguments, "--data", chat("error-503"), "--retries", 3)
        result = json.loads(output)
        assert status == 1 and result["requests"] < 10
        assert server.stats()["calls"] == result["sent"] <= 10
        status, output, _ = run(*arguments, "--data", chat("error-503"))
        result = json.loads(output)
        assert (status, result["requests"], result["sent"]) == (1, 10, 10)
        assert result["statuses"] == {"503": 10} and not result["latency_ms"]


def test_what_is_set_aside_for_retries_is_sent_in_the_end(run):
    def handle(connection, _):
        rest = b""
        while True:
            _, _, rest = servers.read_request(connection, rest)
            threading.Event().wait(0.2)
            servers.answer(connection)

    with servers.RawServer(handle) as server:
        for loop in (["--rate", 200], ["--concurrency", 20]):
            arguments = [server.url, *loop, "--requests", 20, "--retries", 3, "--json"]
            status, output, _ = run(*arguments)
            assert status == 0 and json.loads(output)["requests"] == 20


@pytest.mark.parametrize("loop", [["--rate", "100"], []])
def test_what_cannot_be_sent_ends_it(run, loop):
    status, output, errors = run("http://127.0.0.1:9/", "--header", "bad name: x", *loop)
    assert (status, output) == (2, "") and "bad name" in errors and "Traceback" not in errors


@pytest.mark.parametrize("command", ["bench", "probe"])
@pytest.mark.parametrize("wrong", [["-H", "authorization: Bearer opaque"], ["--headers=opaque"]])
def test_what_is_not_known_is_not_repeated(command, wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "http://127.0.0.1:9/", *wrong])
    captured = capsys.readouterr()
    assert ended.value.code == 2 and "--header" in captured.err
    assert "opaque" not in captured.out + captured.err


def test_nobody_pays_who_has_not_agreed(run, monkeypatch):
    """Nothing is sent, which is tried with a name that does not resolve."""
    monkeypatch.setattr(bench, "_open_pool", None)
    url = "http://llm.invalid/"
    for arguments, said in [
        (["--requests", 101], "101 GET requests to llm.invalid may be billed; --yes"),
        (["--duration", 1], "any number of GET requests"),
        (["--rate", 200, "--duration", 1], "up to 200 GET requests"),
        (["--requests", 1, "--data", "{}"], "1 POST requests"),
        (["--requests", 1, "--method", "delete"], "1 DELETE requests"),
        (["--rate", 90, "--duration", 1, "--retries", 1], "up to 180 GET"),
    ]:
        status, output, errors = run(url, *arguments)
        assert status == 2 and not output and said in errors, errors


def asks(url, method="GET", is_agreed=False, **plan):
    values = {"concurrency": 1, "rate": None, "requests": 1, "seconds": None, "retries": 0}
    call = Call(method, URL(url), [], None, 1.0, {})
    try:
        bench._ask(call, load.Plan(**{**values, **plan}), is_agreed)
    except ValueError:
        return True
    return False


def test_who_is_asked(capsys):
    for url in (
        "http://localhost/",
        "http://127.8.9.1:1/",
        "https://[::1]/",
        "http://a.localhost/",
    ):
        assert not asks(url, "POST", requests=10_000)
    for url in ("http://example.com/", "http://10.0.0.1/", "http://localhost.example.com/"):
        assert asks(url, "POST") and asks(url, requests=101) and asks(url, requests=None)
        assert not asks(url, requests=100)
        assert not capsys.readouterr().err
        assert not asks(url, "POST", True) and "may be billed" in capsys.readouterr().err


def test_the_screen(run, models):
    status, output, _ = run(*models, "--requests", 40)
    assert status == 0 and "\033" not in output
    lines = output.splitlines()
    assert max(map(len, lines)) <= 80
    assert re.search(r"^answered  40 in .* a second$", output, re.M) and "40 HTTP 200" in output
    assert re.search(r"^whole answer( +[\d.]+ (us|ms|s)){7}$", output, re.M)
    counts = [int(count) for count in re.findall(r"^ +[\d.]+ (?:us|ms|s)  .*?(\d+)$", output, re.M)]
    assert sum(counts) == 40


def test_errors_are_said_and_keys_are_not(run, mock, monkeypatch):
    monkeypatch.setenv("WRONG", KEY)
    arguments = [
        f"{mock.url}/v1/models?key={KEY}", "--ca-file", mock.ca_file, "--requests", 3,
        "--header", "authorization: Bearer $WRONG",
    ]  # fmt: skip
    for more in ([], ["--json"]):
        status, output, errors = run(*arguments, *more)
        assert status == 1 and "401" in output and KEY not in output + errors
    status, output, _ = run(f"http://127.0.0.1:{servers.free_port()}/", "--requests", 2)
    assert status == 1 and "2 ConnectError" in output


def test_arguments(capsys):
    for arguments in (
        ["--requests", "0"],
        ["--requests", "1" * 5001],
        ["--concurrency", "1" + "0" * 30],
        *(["--rate", wrong] for wrong in ("x", "0", "-1", "nan", "inf", "1e200", "1e-320")),
        ["--duration", "-1"],
        ["--retries", ""],
    ):
        with pytest.raises(SystemExit) as ended:
            main(["bench", "http://localhost/", *arguments])
        assert ended.value.code == 2 and arguments[0] in capsys.readouterr().err
    assert above_0("0.5") == 0.5


def test_percentiles_and_histogram():
    values = [float(value) for value in range(1, 101)]
    assert [load.percentile(values, percent) for percent in (50, 99, 99.9)] == [50, 99, 100]
    assert load.percentile([7.0], 50) == 7
    buckets = load.histogram(values, 12)
    assert sum(bucket.size for bucket in buckets) == 100 and len(buckets) == 12
    assert buckets[0].low == 1 and buckets[-1].high == pytest.approx(100)
    assert load.histogram([5.0, 5.0], 12) == [load.Bucket(5.0, 5.0, 2)]


def test_ctrl_c():
    """What was answered by then is shown; nothing of Python's own."""
    slow = threading.Event()

    def handle(connection, number):
        rest, count = b"", 0
        while True:
            _, _, rest = servers.read_request(connection, rest)
            count += 1
            if count > 3:
                slow.set()
                connection.recv(1)  # until the client leaves
            servers.answer(connection)

    with servers.RawServer(handle) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "llmpool", "bench", server.url, "--concurrency", "1"],
            env={**os.environ, "PYTHONPATH": servers.python_path()},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert slow.wait(60)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "llmpool bench: stopped\n")
    assert "answered  3 in" in output and "Stopped before it was done" in output
