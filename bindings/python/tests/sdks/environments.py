"""Virtual environments for SDKs that do not fit into one."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, Tuple

BUILD = Path(__file__).resolve().parents[4] / "build" / "sdks"


class Environment(NamedTuple):
    """What a program needs; "": none of ours.

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
            "langchain-anthropic>=1.7", "langchain-openai>=1.7",
            "pydantic-ai-slim[openai]>=2.68", "aiohttp",
        ),
    ),
    "instructor": Environment("instructed", ("instructor>=1.17", "aiohttp")),
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
    # For the SDKs' own examples and tests.
    "theirs": Environment(
        "",
        (
            "openai[aiohttp]>=3.57", "anthropic[aiohttp]>=2.14", "dirty-equals", "griffe",
            "http-snapshot[httpx]", "inline-snapshot>=0.28", "nest-asyncio", "numpy",
            "opentelemetry-sdk", "pytest", "pytest-asyncio", "pytest-xdist", "respx", "rich",
            "time-machine", "trio",
        ),
    ),
}  # fmt: skip


def python_of(name):
    """Of its environment; made once, beside everything else that is built."""
    place = BUILD / name
    python = place / "bin" / "python"
    if not (place / "is-made").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *ENVIRONMENTS[name].packages], check=True)
        (place / "is-made").touch()
    return str(python)
