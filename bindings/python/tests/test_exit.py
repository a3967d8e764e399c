"""A process may end at any moment, also where Python's ssl has registered exit handlers first."""

import os
import subprocess
import sys
import time

import pytest
import servers

EXITS = int(os.environ.get("LLMPOOL_TEST_EXITS", "20"))

SCRIPT = """
{imports}
import sys, threading, time
import llmpool
llmpool.configure(ca_file=sys.argv[2], {options})
client = llmpool.Client(base_url=sys.argv[1], timeout=None)
def call():
    try: client.get("/")
    except BaseException: pass
for _ in range(50): threading.Thread(target=call, daemon=True).start()
end = time.monotonic() + 30
while llmpool.stats().active < 50 and time.monotonic() < end: time.sleep(0.001)
stats = llmpool.stats()
{end}
"""


def stream(connection, _):
    """An answer that goes on for ever, in small pieces."""
    servers.read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"40\r\n" + b"x" * 64 + b"\r\n")
        time.sleep(0.05)  # its pace: 200 of these run at once


def exits(count, script, *arguments):
    """(exit code, last words) of each of so many processes, four at a time."""
    from concurrent.futures import ThreadPoolExecutor

    def one(_):
        process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            env={**os.environ, "PYTHONPATH": servers.python_path()},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            errors = process.communicate(timeout=90)[1][-400:]
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            errors = b"it hung"
        return process.returncode, errors

    with ThreadPoolExecutor(4) as executor:
        return list(executor.map(one, range(count)))


@pytest.mark.parametrize("imports", ["import ssl", ""])
def test_with_fifty_tls_streams(imports, certificates):
    end = "sys.exit(7 if stats.active == 50 else 8)"
    script = SCRIPT.format(imports=imports, options="http2=False", end=end)
    with servers.RawServer(stream, certificates.context("good")) as server:
        codes = exits(EXITS if imports else EXITS // 4, script, server.url, certificates.ca_file)
        server.errors.clear()
    assert [code for code in codes if code[0] != 7] == []


def test_by_an_exception_and_by_os_exit(certificates):
    for end, code in (("raise ValueError", 1), ("import os; os._exit(9)", 9)):
        script = SCRIPT.format(imports="import ssl", options="http2=False", end=end)
        with servers.RawServer(stream, certificates.context("good")) as server:
            codes = exits(4, script, server.url, certificates.ca_file)
            server.errors.clear()
        assert [status for status, _ in codes] == [code] * 4, codes
