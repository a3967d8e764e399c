"""Builds the library through CMake and puts it into the wheel.

LLMPOOL_LIBRARY at build time names a library that is already built, which is then taken instead;
llmpool.cdx.json beside it says what is linked in, and goes into the wheel as PEP 770 has it.
CMAKE_ARGS are given to CMake, as -DLLMPOOL_SWIFT=/path/to/swift. A source distribution carries the
library's sources with it, in native/.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent
CARRIED = HERE / "native"
SOURCES = CARRIED if CARRIED.exists() else HERE.parent.parent
# What CMake and SwiftPM read; SwiftPM wants the directory of each target, those of tests too.
NEEDED = (
    "CMakeLists.txt", "Package.swift", "LICENSE", "LICENSE.runtime", "cmake", "include", "Sources",
    "Tests", "examples",
)  # fmt: skip
SWIFT = "/opt/swift/usr/bin"  # where CMake looks for it, too
TOOLS = ("swift", "cmake", "ninja", "pkg-config")
# What pip's user reads who has no wheel for the platform, and so has got the source distribution.
NO_WHEEL = """\
There are wheels of libllmpool for Linux on x86-64 with glibc 2.34 (Debian 12, RHEL 9) or newer.
Building it needs Linux, Swift 6.3, CMake 3.25, Ninja, pkg-config, a C compiler, and the headers \
of libcurl, nghttp2 and OpenSSL 3; here is no {}."""
BUILDS = {"bdist_wheel", "build", "build_py", "editable_wheel", "install"}


def soname():
    """The name that the library is loaded by. Before 1.0 each minor version has one of its own."""
    header = (SOURCES / "include" / "llmpool.h").read_text()
    version = dict(re.findall(r"#define LLMPOOL_VERSION_(\w+) (\d+)", header))
    return f"libllmpool.so.{version['MAJOR']}.{version['MINOR']}"


def run(*command):
    """A tool whose own words are all that is to be read, not a traceback of this file as well."""
    if subprocess.call([str(part) for part in command]):
        raise SystemExit(f"libllmpool was not built: {' '.join(map(str, command))} failed")


class Library:
    """libllmpool, built by CMake."""

    # Kept between builds and beside everything else that is built: Swift takes minutes.
    directory = SOURCES / "build" / "python"

    @classmethod
    def configure(cls):
        if not (SOURCES / "CMakeLists.txt").exists():
            raise SystemExit(
                f"{SOURCES} has no CMakeLists.txt: build llmpool from its repository or its source "
                "distribution, or name a built library by LLMPOOL_LIBRARY"
            )
        lacking = [] if sys.platform == "linux" else ["Linux"]
        lacking += [tool for tool in TOOLS if not cls.has(tool)]
        if lacking:  # said at once; CMake says what else is missing, and which version is too old
            raise SystemExit(NO_WHEEL.format(" and no ".join(lacking)))
        run(
            "cmake", "--log-level=WARNING", "-S", SOURCES, "-B", cls.directory, "-G", "Ninja",
            "-DCMAKE_BUILD_TYPE=Release", "-DLLMPOOL_BUILD_TESTS=OFF",
            "-DLLMPOOL_BUILD_EXAMPLES=OFF", *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        )  # fmt: skip

    @staticmethod
    def has(tool):
        named = f"-DLLMPOOL_{tool.upper()}=" in os.environ.get("CMAKE_ARGS", "")
        return named or shutil.which(tool) or shutil.which(tool, path=SWIFT)

    @classmethod
    def build(cls):
        run("cmake", "--build", cls.directory)

    @classmethod
    def file(cls):
        return Path(os.environ.get("LLMPOOL_LIBRARY") or cls.directory / soname()).resolve()


class BuildPy(build_py):
    def run(self):
        super().run()
        if not os.environ.get("LLMPOOL_LIBRARY"):
            Library.build()
        target = Path(self.build_lib, "llmpool", soname())
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Library.file(), target)


class SourceDistribution(sdist):
    """With the library's sources, without which nothing could be built from it."""

    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        built = shutil.ignore_patterns("__pycache__", ".build*", "build", "build-*")
        for name in NEEDED:
            source, target = SOURCES / name, Path(base_dir, "native", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=built)
            else:
                shutil.copyfile(source, target)


class PlatformWheel(bdist_wheel):
    """No extension module, but a library of one platform: py3-none-linux_x86_64."""

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]

    def egg2dist(self, egginfo_path, distinfo_path):
        super().egg2dist(egginfo_path, distinfo_path)
        bill = Library.file().with_name("llmpool.cdx.json")
        if bill.exists():
            os.mkdir(Path(distinfo_path, "sboms"))
            shutil.copyfile(bill, Path(distinfo_path, "sboms", bill.name))


class BinaryDistribution(Distribution):
    def has_ext_modules(self):
        return True

    def run_commands(self):
        """What is missing is said before anything else, not after pages of a build's output."""
        if BUILDS & set(self.commands) and not os.environ.get("LLMPOOL_LIBRARY"):
            Library.configure()
        super().run_commands()


setup(
    cmdclass={"build_py": BuildPy, "bdist_wheel": PlatformWheel, "sdist": SourceDistribution},
    distclass=BinaryDistribution,
)
