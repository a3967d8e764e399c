"""What holds for each command: its help, its exit status, and where there is no terminal."""

import subprocess
import sys

import pytest

COMMANDS = ["run", "probe", "bench", "doctor", "top", "advise", "fleet"]


def run(*arguments):
    command = [sys.executable, "-m", "llmpool", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=lambda c: " ".join(c))
def test_help(command):
    done = run(*command, "--help")
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.lower().startswith("usage: ") and "\033" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    if command:
        assert f"llmpool {command[0]}" in done.stdout
    else:
        assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_not_known_is_refused_and_not_repeated(command):
    done = run(command, "--no-such-key-as-sk-secret")
    assert done.returncode == 2 and not done.stdout
    assert "sk-secret" not in done.stderr and "Traceback" not in done.stderr
