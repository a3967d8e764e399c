"""What is given away. scripts/test-packages builds all of it; here nothing is compiled."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from llmpool._native import library

PACKAGE = Path(__file__).resolve().parents[1]
REPOSITORY = PACKAGE.parents[1]


def setup_py(directory, *arguments, **environment):
    command = [sys.executable, "setup.py", "--quiet", *map(str, arguments)]
    variables = {**os.environ, **environment}
    if not environment:
        variables.pop("LLMPOOL_LIBRARY", None)
    return subprocess.run(
        command, cwd=directory, env=variables, text=True, timeout=120,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The source distribution, with nothing of the repository around it."""
    pytest.importorskip("setuptools", "77")
    directory = tmp_path_factory.mktemp("sdist")
    done = setup_py(PACKAGE, "egg_info", "--egg-base", directory, "sdist", "--dist-dir", directory)
    assert done.returncode == 0, done.stdout
    (archive,) = directory.glob("libllmpool-*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(directory)
    return directory / archive.name[: -len(".tar.gz")]


def test_the_sdist_has_all_sources(unpacked):
    command = [
        "git",
        "ls-files",
        "-z",
        "CMakeLists.txt",
        "Package.swift",
        "cmake",
        "include",
        "Sources",
    ]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a repository")
    names = filter(None, listed.stdout.split("\0"))
    missing = [name for name in names if not (unpacked / "native" / name).exists()]
    assert not missing
    assert (unpacked / "LICENSE").read_text() == (REPOSITORY / "LICENSE").read_text()
    assert not list(unpacked.rglob("*.so*")) and not list(unpacked.rglob(".build*"))


def test_a_wheel_of_the_sdist(unpacked, tmp_path):
    done = setup_py(
        unpacked, "bdist_wheel", "--dist-dir", tmp_path, LLMPOOL_LIBRARY=library.lib.path
    )
    assert done.returncode == 0, done.stdout
    (wheel,) = tmp_path.glob("libllmpool-*-py3-none-linux_*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert f"llmpool/{library.SONAME}" in names and "llmpool/mock/__main__.py" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_without_swift_that_is_the_first_thing_said(unpacked, tmp_path):
    done = setup_py(
        unpacked, "bdist_wheel", "--dist-dir", tmp_path, LLMPOOL_LIBRARY="",
        CMAKE_ARGS=f"-DLLMPOOL_SWIFT={tmp_path}/swift",
    )  # fmt: skip
    assert done.returncode != 0
    cause = "needs Swift" if "needs Swift" in done.stdout else "needs cmake"
    assert cause in " ".join(done.stdout.split("\n")[:5]), done.stdout
    assert "Traceback" not in done.stdout and not list(tmp_path.iterdir())
