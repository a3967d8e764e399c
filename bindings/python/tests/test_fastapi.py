"""examples/fastapi_app.py under uvicorn, in front of the mock."""

import contextlib
import os
import re
import socket
import sys
from pathlib import Path

import pytest
import servers

import llmpool

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
LOOPS = ["asyncio", "uvloop"]


@contextlib.contextmanager
def serving(loop, model, tokens, directory):
    """The address of the example, which runs on this kind of loop and asks this model."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    pytest.importorskip(loop)
    port = servers.free_port()
    environment = {
        **os.environ,
        "OPENAI_BASE_URL": tokens.url + "/v1",
        "OPENAI_API_KEY": tokens.api_key,
        "OPENAI_MODEL": model,
        "LLM_CA_FILE": tokens.ca_file,
        "PYTHONPATH": servers.python_path(),
    }
    command = [
        sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "--port", str(port),
        "--loop", loop, "fastapi_app:app",
    ]  # fmt: skip
    with servers.running(command, port, directory, env=environment):
        yield f"http://127.0.0.1:{port}"
    log = (directory / f"log-{port}").read_text()
    assert "Traceback" not in log and "Application shutdown complete" in log, log


@pytest.fixture(scope="module", params=LOOPS)
def application(request, tokens, tmp_path_factory):
    directory = tmp_path_factory.mktemp("fastapi")
    with serving(request.param, "gpt-mock", tokens, directory) as address:
        yield address


def test_tokens_as_they_come(application, open_client):
    client = open_client(application)
    with client.stream("GET", "/ask", params={"question": "hi"}) as response:
        assert response.raise_for_status().headers["content-type"].startswith("text/plain")
        pieces = list(response.iter_text())
    assert "".join(pieces).startswith("The pool keeps one") and len(pieces) > 3


@pytest.mark.parametrize("loop", LOOPS)
def test_upstream_is_cancelled_when_the_browser_leaves(loop, tokens, tmp_path):
    # Its tokens come for a minute: the answer does not end before it is left.
    with serving(loop, "long-3000+lasts-60", tokens, tmp_path) as address:
        left = tokens.stats()["left"]
        host, port = address[len("http://") :].split(":")
        with socket.create_connection((host, int(port))) as browser:
            browser.sendall(b"GET /ask?question=hi HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"200 OK" in browser.recv(65536)
            browser.recv(65536)
        assert servers.wait_until(lambda: tokens.stats()["left"] >= left + 1)
        assert servers.wait_until(lambda: tokens.stats()["streams"] == 0)


def test_metrics(application, open_client):
    client = open_client(application)
    text = client.get("/metrics").raise_for_status().text
    assert re.search(r"^llmpool_\w+.* \d", text, re.M)
    assert client.get("/ask").status_code == 422


def test_what_goes_wrong_upstream_is_a_502(open_client, monkeypatch):
    pytest.importorskip("fastapi")
    testclient = pytest.importorskip("fastapi.testclient")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{servers.free_port()}")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    sys.modules.pop("fastapi_app", None)
    import fastapi_app

    try:
        with testclient.TestClient(fastapi_app.app) as client:
            assert client.get("/ask?question=hi").status_code == 502
    finally:
        sys.modules.pop("fastapi_app", None)
        llmpool.configure(limits=llmpool.Limits(max_connections=100), ca_file=None)
