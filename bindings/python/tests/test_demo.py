"""The demonstration runs, holds what it shows, and leaves nothing behind when it is stopped."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import servers

DEMO = Path(__file__).resolve().parents[1] / "demo" / "demo.py"


def demo(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, str(DEMO), *arguments],
        env={**os.environ, "PYTHONPATH": servers.python_path(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_with_a_c_library():
    library = os.environ.get("LLMPOOL_DEMO_CLIENT")
    if not library:
        pytest.skip("LLMPOOL_DEMO_CLIENT does not name libdemo_client.so")
    process = demo(library)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, output + errors
    # 25 ms each way: three round trips to connect and ask, or one.
    rows = re.findall(r"^  (a client each|httpx2's pool|llmpool) +(\d+) ms .* (\d+)$", output, re.M)
    ways = {name: (int(total), int(connections)) for name, total, connections in rows}
    assert ways["a client each"][0] >= 20 * 3 * 50 and ways["a client each"][1] == 20, output
    assert ways["llmpool"][0] >= 22 * 50 and ways["llmpool"][1] == 1, output
    if sys.version_info >= (3, 11):
        assert ways["httpx2's pool"][1] == 1, output
    assert re.search(r"^  llmpool: 1 connection, \d+ ms$", output, re.M), output
    assert "8 streams on 1 connection" in output and "  stream 8 " in output, output
    assert "submitted=200 succeeded=200 failed=0 opened=1 reused=199" in output
    assert "PoolTimeout after" in output and "nothing was sent: True" in output


def test_against_an_endpoint(mock):
    process = demo(
        LLMPOOL_DEMO_URL=mock.url + "/v1",
        LLMPOOL_DEMO_KEY=mock.api_key,
        LLMPOOL_DEMO_MODEL="gpt-mock",
        LLMPOOL_DEMO_CALLS="5",
        LLMPOOL_DEMO_CA_FILE=mock.ca_file,
    )
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, output + errors
    assert "submitted=5 succeeded=5 failed=0" in output and "PoolTimeout" not in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stops_what_it_started(number):
    process = demo()
    url = process.stdout.readline().split()[1].rstrip(",")
    port = int(url.split(":")[2].split("/")[0])
    assert servers.listening(port)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode in (130, 143)
    assert servers.wait_until(lambda: not servers.listening(port), 30)
