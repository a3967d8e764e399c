"""The version is declared in the header, and what else has it agrees."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
# What scripts/set-version reads and writes.
FILES = (
    "scripts/set-version", "include/llmpool.h", "README.md", "SECURITY.md", "docs/build.md",
    "debian/control", "debian/changelog", "scripts/test-packages",
    "bindings/python/llmpool/_version.py",
)  # fmt: skip
# And what scripts/extract does, which it calls.
FOLDERS = ("scripts/extractor", "docs", "examples", "Sources", "bindings/python/llmpool")


def versions(root):
    """Each of them, by where it is written."""
    header = (root / "include/llmpool.h").read_text()
    parts = [re.search(rf"VERSION_{part} (\d+)", header) for part in ("MAJOR", "MINOR", "PATCH")]
    found = {"header": ".".join(part.group(1) for part in parts)}
    for name, pattern in (
        ("bindings/python/llmpool/_version.py", r'__version__ = "(.*)"'),
        ("debian/changelog", r"\Allmpool \((.*?)\)"),
        ("docs/build.md", r"libllmpool\.so\.(\d+\.\d+\.\d+)"),
    ):
        found[name] = re.search(pattern, (root / name).read_text()).group(1)
    for name in (
        "README.md",
        "SECURITY.md",
        "docs/build.md",
        "debian/control",
        "scripts/test-packages",
    ):
        text = (root / name).read_text()
        for place in re.finditer(r"libllmpool(?:\.so\.)?(\d+\.\d+)(?!\d|\.\d)", text):
            found[f"{name} at {place.start()}"] = place.group(1)
    return found


def agree(found):
    minor = found["header"].rpartition(".")[0]
    return {name: text for name, text in found.items() if text not in (found["header"], minor)}


def test_all_agree():
    found = versions(REPOSITORY)
    assert not agree(found)
    assert found["debian/changelog"] == found["docs/build.md"] == found["header"]


def test_set_version(tmp_path):
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    shutil.copy(REPOSITORY / "scripts/extract", tmp_path / "scripts/extract")
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("*.so*", "__pycache__")
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=ignored, dirs_exist_ok=True)
    for version in ("0.12.3", "0.12.3", "2.0.0"):
        subprocess.run([sys.executable, tmp_path / "scripts/set-version", version], check=True)
        found = versions(tmp_path)
        assert found["header"] == version and not agree(found)
    changelog = (tmp_path / "debian/changelog").read_text()
    assert re.findall(r"^llmpool \((.*?)\)", changelog, re.M)[:2] == ["2.0.0", "0.12.3"]
    constants = (tmp_path / "bindings/python/llmpool/_http/constants.py").read_text()
    assert "VERSION_MAJOR = 2\n" in constants
    assert '"llmpool 2.0.0"' in (tmp_path / "docs/man/man3/llmpool_open.3").read_text()


def test_set_version_refuses_what_is_none(tmp_path):
    command = [sys.executable, REPOSITORY / "scripts/set-version", "0.2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and "MAJOR.MINOR.PATCH" in done.stderr
