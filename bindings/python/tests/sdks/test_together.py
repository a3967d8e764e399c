"""Loops, threads, chains of LangChain and a C library of one process: what they share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import servers
from environments import python_of

from llmpool.mock import MockServer

PROGRAM = Path(__file__).resolve().parent / "programs" / "together.py"
LONG = bool(os.environ.get("LLMPOOL_LONG_TESTS"))
# What the program has in flight at most, with chains, of which a connection carries a hundred.
CONNECTIONS = 3


@pytest.fixture(scope="module")
def slow():
    with MockServer(tokens=50, tokens_per_second=50) as server:
        yield server


def run(python, server, rounds):
    """Whether the program had chains, as it says."""
    library = os.environ.get("LLMPOOL_DEMO_CLIENT", "")
    calls = servers.Calls(server)
    done = subprocess.run(
        [python, PROGRAM, server.url, server.api_key, library, str(rounds)],
        env={
            **os.environ,
            "PYTHONPATH": servers.python_path(),
            "SSL_CERT_FILE": server.ca_file,
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert servers.wait_until(lambda: server.stats()["streams"] == 0)
    seen = calls.since()
    assert seen["versions"].get("1.1", 0) == 0 and seen["connections"] <= CONNECTIONS, seen
    assert seen["left"] > 0
    return done.stdout == "chains\n"


def test_all_at_once_on_as_few_connections_as_streams_need(slow):
    pytest.importorskip("httpx2")
    pytest.importorskip("openai", minversion="3")
    run(sys.executable, slow, rounds=10 if LONG else 1)


@pytest.mark.skipif(not LONG, reason="LLMPOOL_LONG_TESTS")
def test_with_chains_of_langchain(slow):
    assert run(python_of("openai3"), slow, rounds=3)
