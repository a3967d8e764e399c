"""What is given away. scripts/test-packages builds all of it; here nothing is compiled."""

import json
import os
import re
import resource
import shutil
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
        "LICENSE.runtime",
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


@pytest.fixture(scope="module")
def wheel(unpacked, tmp_path_factory):
    """Of the source distribution, around this library and what is said to be linked into it."""
    directory = tmp_path_factory.mktemp("wheel")
    shutil.copy(library.lib.path, directory / "library.so")
    (directory / "llmpool.cdx.json").write_text('{"bomFormat": "CycloneDX"}')
    built = directory / "library.so"
    done = setup_py(unpacked, "bdist_wheel", "--dist-dir", directory, LLMPOOL_LIBRARY=str(built))
    assert done.returncode == 0, done.stdout
    (path,) = directory.glob("libllmpool-*-py3-none-linux_*.whl")
    return path


def test_a_wheel_of_the_sdist(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"llmpool/{library.SONAME}", "llmpool/mock/__main__.py", "llmpool/py.typed"} < {*names}
    info = {name.partition(".dist-info/")[2] for name in names}
    assert {"licenses/LICENSE", "licenses/LICENSE.runtime", "sboms/llmpool.cdx.json"} < info


def test_what_the_wheel_says_of_itself(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = archive.read(name).decode().splitlines()
    assert {"License-Expression: Apache-2.0", "License-File: LICENSE.runtime"} < {*metadata}
    assert 'Requires-Dist: httpx2>=2; python_version >= "3.11" and extra == "httpx2"' in metadata
    given = {line.split(": ")[1] for line in metadata if line.startswith("Provides-Extra: ")}
    table = (REPOSITORY / "docs/installing.md").read_text().split("## Extras")[1].split("\n## ")[0]
    named = re.findall(
        r"`(\w+)`", "".join(row.split("|")[1] for row in re.findall(r"^\|.*", table, re.M))
    )
    assert given - {"test", "docs"} == {*named}


def test_without_swift_that_is_the_first_thing_said(unpacked, tmp_path):
    done = setup_py(
        unpacked, "bdist_wheel", "--dist-dir", tmp_path, LLMPOOL_LIBRARY="",
        CMAKE_ARGS=f"-DLLMPOOL_SWIFT={tmp_path}/swift",
    )  # fmt: skip
    assert done.returncode != 0
    cause = "needs Swift" if "needs Swift" in done.stdout else "needs cmake"
    assert cause in " ".join(done.stdout.split("\n")[:5]), done.stdout
    assert "Traceback" not in done.stdout and not list(tmp_path.iterdir())


def test_where_there_is_no_wheel_two_lines_say_so_at_once(unpacked, tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = setup_py(
        unpacked, "bdist_wheel", "--dist-dir", tmp_path, PATH=str(tmp_path), LLMPOOL_LIBRARY=""
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode != 0
    wheels, building = done.stdout.splitlines()
    assert "wheels of libllmpool for Linux on x86-64 with glibc 2.34" in wheels
    assert "Swift 6.3" in building and "no cmake and no ninja" in building
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 1


# ---- the other llmpool


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A distribution as PyPI's llmpool, which nobody should run."""
    path = tmp_path_factory.mktemp("other") / "llmpool-0.2.2-py3-none-any.whl"
    files = {
        "llmpool/__init__.py": "raise RuntimeError('another project')\n",
        "llmpool/model.py": "",
        "llmpool-0.2.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: llmpool\n"
        "Version: 0.2.2\n",
        "llmpool-0.2.2.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    record = "llmpool-0.2.2.dist-info/RECORD"
    files[record] = "".join(f"{name},,\n" for name in [*files, record])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


class Environment:
    """A virtual environment, which pip of this one installs into."""

    def __init__(self, directory):
        self.bin = directory / "bin"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)

    def run(self, *command):
        environment = {**os.environ, "PYTHONPATH": ""}
        environment.pop("LLMPOOL_LIBRARY", None)
        return subprocess.run(
            [*map(str, command)], env=environment, cwd=self.bin, timeout=120, text=True,
            capture_output=True,
        )  # fmt: skip

    def pip(self, *arguments):
        pip = [sys.executable, "-m", "pip", "--python", self.bin / "python"]
        done = self.run(*pip, "--disable-pip-version-check", *arguments)
        assert done.returncode == 0, done.stderr

    def install(self, *arguments):
        self.pip("install", "--no-index", "--no-deps", *arguments)

    def doctor(self):
        """What it finds of distributions."""
        done = self.run(self.bin / "llmpool-doctor", "--json")
        assert done.stdout, done.stderr
        found = json.loads(done.stdout)["findings"]
        return [each["what"] for each in found if each["name"] == "distributions"]


@pytest.mark.parametrize("is_last", [True, False])
def test_beside_the_other_llmpool(wheel, other, tmp_path, is_last):
    """The doctor says whose `import llmpool` is, and its way out leads out."""
    environment = Environment(tmp_path)
    for path in (wheel, other) if is_last else (other, wheel):
        environment.install(path)
    works = (environment.bin / "python", "-c", "import llmpool; llmpool.Client()")
    assert (environment.run(*works).returncode == 0) == (not is_last)
    (said,) = environment.doctor()
    assert "The distribution llmpool 0.2.2 has written llmpool/__init__.py, too." in said
    gives = "llmpool, installed last" if is_last else "this one, until llmpool is removed"
    assert said.endswith(f"What `import llmpool` gives is {gives}.")
    environment.pip("uninstall", "--yes", "llmpool")
    (said,) = environment.doctor()
    assert "llmpool/__init__.py is not what libllmpool has installed, or is gone" in said
    environment.install("--force-reinstall", wheel)
    assert environment.doctor() == []
    done = environment.run(*works)
    assert done.returncode == 0, done.stderr
