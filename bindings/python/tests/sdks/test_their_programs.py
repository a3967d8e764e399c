"""Examples and tests of the SDKs themselves, from their sdists, unchanged: by themselves and by
llmpool run the same comes out. Fetched from PyPI, hence with LLMPOOL_LONG_TESTS."""

import os
import re
import subprocess
import tarfile
import xml.etree.ElementTree as ElementTree
from typing import NamedTuple, Tuple

import pytest
import servers
from environments import BUILD, python_of

from llmpool.mock import MockServer

pytestmark = pytest.mark.skipif(
    not os.environ.get("LLMPOOL_LONG_TESTS"), reason="LLMPOOL_LONG_TESTS"
)


class Theirs(NamedTuple):
    """What of an sdist runs offline.

    Attributes:
        examples: in its folder of that name, those that call what the mock has.
        tests: those that send through httpx2, mostly mocked.
        passed: how many pass at least.
    """

    examples: Tuple[str, ...]
    tests: Tuple[str, ...]
    passed: int


THEIRS = {
    "openai": Theirs(
        (
            "async_demo", "demo", "httpx2_client", "parsing", "parsing_stream", "parsing_tools",
            "parsing_tools_stream", "streaming",
        ),
        (
            "test_client.py", "test_httpx2.py", "test_httpx2_base.py", "test_httpx2_respx.py",
            "test_httpx2_workload.py", "test_streaming.py", "test_response.py",
        ),
        330,
    ),
    "anthropic": Theirs(
        (
            "fallbacks", "images", "message_threads", "messages", "messages_stream",
            "structured_outputs", "structured_outputs_streaming", "thinking", "thinking_stream",
            "tools", "tools_runner", "tools_stream", "web_search", "web_search_stream",
        ),
        ("test_client.py", "test_streaming.py", "test_response.py", "test_middleware.py"),
        200,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def python():
    return python_of("theirs")


def sdist_of(name, python):
    """Its folder, of the version that is installed; fetched once."""
    version = subprocess.check_output(
        [python, "-c", f"import {name}; print({name}.__version__)"], text=True
    ).strip()
    place = BUILD / "sdists"
    folder = place / f"{name}-{version}"
    if not folder.exists():
        pip = [python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        pip += ["--no-deps", "--no-binary", ":all:", "--dest", place]
        subprocess.run([*pip, f"{name}=={version}"], check=True, timeout=600)
        with tarfile.open(f"{folder}.tar.gz") as archive:
            archive.extractall(place, filter="data")
    return folder


def run(python, command, folder, **variables):
    return subprocess.run(
        [python, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": servers.python_path(), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1200,
    )


def example(python, command, folder):
    """What it prints, but for numbers, and what a mock of its own counted."""
    with MockServer() as server:
        done = run(
            python,
            command,
            folder,
            SSL_CERT_FILE=server.ca_file,
            OPENAI_API_KEY=server.api_key,
            OPENAI_BASE_URL=server.url + "/v1",
            ANTHROPIC_API_KEY=server.api_key,
            ANTHROPIC_BASE_URL=server.url,
        )
        assert done.returncode == 0, done.stderr
        return re.sub(r"\d+", "0", done.stdout), server.stats()


@pytest.mark.parametrize("name", THEIRS)
def test_their_examples(name, python):
    folder = sdist_of(name, python) / "examples"
    for program in THEIRS[name].examples:
        file = f"{program}.py"
        printed, seen = example(python, [file], folder)
        ours, seen_of_ours = example(python, ["-m", "llmpool", "run", file], folder)
        assert ours == printed, program
        assert seen_of_ours["paths"] == seen["paths"] and "other" not in seen["paths"], program
        assert seen["versions"] == {"1.1": seen["calls"]}, program
        assert seen_of_ours["versions"] == {"2": seen["calls"]}, program
        assert seen_of_ours["connections"] == 1, program


def outcomes(python, before, folder, tests, report):
    command = [*before, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    command += [f"--junitxml={report}", *(f"tests/{test}" for test in tests)]
    done = run(python, command, folder)
    assert report.exists(), done.stdout + done.stderr
    return {
        (case.get("classname"), case.get("name")): next(
            (each.tag for each in case if each.tag in ("failure", "error", "skipped")), "passed"
        )
        for case in ElementTree.parse(report).iter("testcase")
    }


@pytest.mark.parametrize("name", THEIRS)
def test_their_tests(name, python, tmp_path):
    """Those that fail by themselves, for want of a package or of a file, fail here, too."""
    folder, tests = sdist_of(name, python), THEIRS[name].tests
    alone = outcomes(python, [], folder, tests, tmp_path / "alone.xml")
    ours = outcomes(python, ["-m", "llmpool", "run"], folder, tests, tmp_path / "ours.xml")
    assert list(alone.values()).count("passed") >= THEIRS[name].passed
    assert {key: (alone.get(key), how) for key, how in ours.items() if how != alone.get(key)} == {}
    assert ours.keys() == alone.keys()
