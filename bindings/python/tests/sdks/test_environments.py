"""SDKs that do not fit into one environment, each in one of its own: by themselves, run by
llmpool, and by its line. The environments take minutes to make: with LLMPOOL_LONG_TESTS."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, Tuple

import pytest
import servers
from servers import Calls

HERE = Path(__file__).resolve().parent


class Environment(NamedTuple):
    """What a program needs.

    Attributes:
        has_line: the program can use llmpool's line, too.
        unserved: what of it calls by aiohttp whatever is installed, and says so.
    """

    program: str
    packages: Tuple[str, ...]
    has_line: bool = False
    unserved: str = ""


GOOGLE, COHERE = "google-genai>=3.6", "cohere>=7.3"
ENVIRONMENTS = {
    "openai3": Environment(
        "openai3",
        (
            "instructor>=1.17", "langchain-anthropic>=1.7", "langchain-openai>=1.7",
            "pydantic-ai-slim[openai]>=2.68", "aiohttp",
        ),
    ),
    "openai2": Environment(
        "openai2", ("dspy>=3.4", "litellm>=1.110", "llama-index-llms-openai>=0.8", "aiohttp")
    ),
    "google": Environment("google_genai", (GOOGLE,), has_line=True),
    "google-aiohttp": Environment("google_genai", (GOOGLE, "aiohttp"), has_line=True),
    "mistral": Environment("mistral", ("mistralai>=3.7",), has_line=True),
    "cohere": Environment("cohere2", (COHERE,), has_line=True),
    "cohere-aiohttp": Environment(
        "cohere2", (COHERE, "httpx-aiohttp<0.2"), has_line=True, unserved="httpx_aiohttp, async"
    ),
}  # fmt: skip

pytestmark = pytest.mark.skipif(
    not os.environ.get("LLMPOOL_LONG_TESTS"), reason="LLMPOOL_LONG_TESTS"
)


def python_of(name):
    """Of its environment; made once, beside everything else that is built."""
    place = HERE.parents[3] / "build" / "sdks" / name
    python = place / "bin" / "python"
    if not (place / "is-made").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *ENVIRONMENTS[name].packages], check=True)
        (place / "is-made").touch()
    return str(python)


@pytest.mark.parametrize("name", ENVIRONMENTS)
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
    assert seen["versions"].get("2", 0) == 0 and seen["calls"] > 8, seen
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
