import importlib.util
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
if importlib.util.find_spec("llmpool") is None:  # not installed: the tree's, with LLMPOOL_LIBRARY
    sys.path.insert(0, str(HERE.parent))

# A machine's own proxies are no part of the tests.
for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
    os.environ.pop(name, None)
    os.environ.pop(name.upper(), None)

import servers  # noqa: E402

import llmpool  # noqa: E402
from llmpool.mock import MockServer  # noqa: E402


@pytest.fixture(autouse=True)
def nothing_held_back():
    """Each test has its first line at once, whatever was logged before it."""
    from llmpool._pool import lines

    lines._forget()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return servers.Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def mock():
    with MockServer() as server:
        yield server


@pytest.fixture(scope="session")
def mock_plain():
    with MockServer(tls=False, http="1") as server:
        yield server


@pytest.fixture(scope="session")
def nginx(tmp_path_factory, certificates):
    server = servers.Nginx(tmp_path_factory.mktemp("nginx"), certificates)
    with server.run():
        yield server


@pytest.fixture(scope="session")
def nghttpd(tmp_path_factory, certificates):
    server = servers.Nghttpd(tmp_path_factory.mktemp("nghttpd"), certificates)
    with server.run():
        yield server


@pytest.fixture
def open_pool():
    """Pools that are closed when the test ends."""
    pools = []

    def open_(**options):
        pools.append(llmpool.Pool(**options))
        return pools[-1]

    yield open_
    for pool in pools:
        pool.close()


@pytest.fixture
def open_client(open_pool):
    """A client with a pool of its own; pool= has that pool's options."""

    def open_(base_url="", *, headers=None, timeout=10.0, **options):
        pool = open_pool(**options)
        return llmpool.Client(base_url=base_url, headers=headers, timeout=timeout, pool=pool)

    return open_


@pytest.fixture(scope="session")
def tokens():
    """A mock with TLS that streams 50 tokens, 200 a second."""
    with MockServer(tokens=50, tokens_per_second=200) as server:
        yield server


@pytest.fixture(scope="session")
def tokens_plain():
    with MockServer(tls=False, http="1", tokens=50, tokens_per_second=200) as server:
        yield server


@pytest.fixture
def at_once():
    """Calls function(0) ... function(count - 1), so many at a time, and returns the results."""

    def run(function, count, threads=64):
        with ThreadPoolExecutor(threads) as executor:
            return list(executor.map(function, range(count)))

    return run


@pytest.fixture
def run_python():
    """Runs a script in a process of its own that imports the same package."""
    import subprocess

    def run(script, *arguments, timeout=60, **environment):
        return subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": servers.python_path(), **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture
def command(capsys):
    """Runs a command of python -m llmpool; its exit status, what it wrote to stdout and stderr."""
    from llmpool._command.main import main

    def run(*arguments):
        status = main([*map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def call_of(mock, monkeypatch):
    """The arguments of a command for a call of the mock, the key in the environment."""
    monkeypatch.setenv("MOCK_KEY", mock.api_key)

    def arguments(path):
        return [
            f"{mock.url}{path}", "--ca-file", mock.ca_file,
            "--header", "authorization: Bearer $MOCK_KEY",
        ]  # fmt: skip

    return arguments
