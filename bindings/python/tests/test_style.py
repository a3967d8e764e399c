"""The linter, the formatter and the type checker have nothing to say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STRICT = ("--strict", "llmpool", "libllmpool_doctor.py")
# Pythons that the tests do not run on: the type checker knows what each has. 3.9 no longer.
OTHERS = ("3.10", "3.12") if os.environ.get("LLMPOOL_LONG_TESTS") else ()


@pytest.mark.parametrize(
    "module, arguments",
    [
        ("ruff", ("check", ".")),
        ("ruff", ("format", "--check", ".")),
        ("mypy", STRICT),
        *(("mypy", (f"--python-version={version}", *STRICT)) for version in OTHERS),
    ],
)
def test_style(module, arguments, tmp_path):
    pytest.importorskip(module)
    command = [sys.executable, "-m", module, *arguments]
    if module == "mypy":
        command.append(f"--cache-dir={tmp_path}")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_lines():
    for path in ROOT.rglob("*.py"):
        if "build" in path.relative_to(ROOT).parts:
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert len(line) <= 100, f"{path}:{number}"
