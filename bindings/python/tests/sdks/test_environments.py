"""SDKs that do not fit into one environment, each in one of its own: by themselves, run by
llmpool, and by its line. The environments take minutes to make: with LLMPOOL_LONG_TESTS."""

import os
import subprocess
from pathlib import Path

import pytest
import servers
from environments import ENVIRONMENTS, python_of
from servers import Calls

HERE = Path(__file__).resolve().parent


pytestmark = pytest.mark.skipif(
    not os.environ.get("LLMPOOL_LONG_TESTS"), reason="LLMPOOL_LONG_TESTS"
)


@pytest.mark.parametrize("name", [name for name, each in ENVIRONMENTS.items() if each.program])
def test_the_same_comes_out(name, mock):
    """By itself, by llmpool run, and by the line: the mock sees which."""
    python, wanted = python_of(name), ENVIRONMENTS[name]
    program = [str(HERE / "programs" / f"{wanted.program}.py"), mock.url, mock.api_key]
    variables = {
        **os.environ,
        "PYTHONPATH": servers.python_path(),
        "SSL_CERT_FILE": mock.ca_file,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }

    def run(*command):
        calls = Calls(mock)
        done = subprocess.run(
            [python, *command], env=variables, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done, calls.since()

    alone, seen = run(*program)
    assert "Error" in alone.stdout and "no error" not in alone.stdout
    assert seen["versions"].get("2", 0) == 0 and seen["calls"] > 1, seen
    ours, seen_of_ours = run("-m", "llmpool", "run", *program)
    assert ours.stdout == alone.stdout
    assert seen_of_ours["paths"] == seen["paths"]
    lines = [line for line in ours.stderr.splitlines() if "Installed(" in line]
    unserved = [line for line in lines if not line.startswith("served ")]
    assert lines and len(unserved) == bool(wanted.unserved), ours.stderr
    assert all(wanted.unserved in line for line in unserved), ours.stderr
    if not unserved:
        on_one_connection(seen_of_ours)
    if wanted.has_line:
        done, seen_of_line = run(*program, "line")
        assert done.stdout == alone.stdout
        assert seen_of_line["paths"] == seen["paths"]
        on_one_connection(seen_of_line)


def on_one_connection(seen):
    assert seen["versions"].get("1.1", 0) == 0 and seen["connections"] == 1, seen
