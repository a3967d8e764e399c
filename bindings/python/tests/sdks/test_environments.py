"""SDKs that do not fit into one environment, each in one of its own: by themselves, and run by
llmpool. The environments take minutes to make: with LLMPOOL_LONG_TESTS."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import servers

HERE = Path(__file__).resolve().parent
# Of each program: what it needs, beside aiohttp, which some of them would rather use.
ENVIRONMENTS = {
    "openai3": (
        "instructor>=1.17", "langchain-anthropic>=1.7", "langchain-openai>=1.7",
        "pydantic-ai-slim[openai]>=2.68",
    ),
    "openai2": ("dspy>=3.4", "litellm>=1.110", "llama-index-llms-openai>=0.8"),
}  # fmt: skip

pytestmark = pytest.mark.skipif(
    not os.environ.get("LLMPOOL_LONG_TESTS"), reason="LLMPOOL_LONG_TESTS"
)


def environment(name):
    """Its Python; made once, beside everything else that is built."""
    place = HERE.parents[3] / "build" / "sdks" / name
    python = place / "bin" / "python"
    if not (place / "is-made").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *ENVIRONMENTS[name], "aiohttp"], check=True)
        (place / "is-made").touch()
    return str(python)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_same_comes_out(name, mock):
    python = environment(name)
    program = [str(HERE / "programs" / f"{name}.py"), mock.url, mock.api_key]
    variables = {
        **os.environ,
        "PYTHONPATH": servers.python_path(),
        "SSL_CERT_FILE": mock.ca_file,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }

    def run(*before):
        done = subprocess.run(
            [python, *before, *program], env=variables, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done

    alone = run()
    ours = run("-m", "llmpool", "run")
    assert ours.stdout == alone.stdout
    lines = [line for line in ours.stderr.splitlines() if "Installed(" in line]
    assert lines and all(line.startswith("served ") for line in lines), ours.stderr
    assert "Error" in ours.stdout and "no error" not in ours.stdout
