"""Builds the library through CMake and puts it into the wheel.

LLMPOOL_LIBRARY at build time names a library that is already built, which is then taken instead.
"""

import os
import shutil
import subprocess
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
SONAME = "libllmpool.so.0"


class BuildPy(build_py):
    def run(self):
        super().run()
        library = os.environ.get("LLMPOOL_LIBRARY") or self.build_library()
        target = Path(self.build_lib, "llmpool", SONAME)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(os.path.realpath(library), target)

    def build_library(self):
        if not (REPOSITORY / "CMakeLists.txt").exists():
            raise SystemExit(
                f"{REPOSITORY} has no CMakeLists.txt: build llmpool from its repository, or name "
                "a built library by LLMPOOL_LIBRARY"
            )
        for tool in ("cmake", "ninja"):  # CMake itself looks for Swift
            if not shutil.which(tool):
                raise SystemExit(
                    f"building libllmpool needs {tool} on PATH; or name a built library by "
                    "LLMPOOL_LIBRARY"
                )
        # Kept between builds and beside everything else that is built: Swift takes minutes.
        directory = REPOSITORY / "build" / "python"
        subprocess.check_call(
            ["cmake", "-S", REPOSITORY, "-B", directory, "-G", "Ninja",
             "-DCMAKE_BUILD_TYPE=Release", "-DLLMPOOL_BUILD_TESTS=OFF",
             "-DLLMPOOL_BUILD_EXAMPLES=OFF"]
        )  # fmt: skip
        subprocess.check_call(["cmake", "--build", directory])
        return directory / SONAME


class PlatformWheel(bdist_wheel):
    """No extension module, but a library of one platform: py3-none-linux_x86_64."""

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


class BinaryDistribution(Distribution):
    def has_ext_modules(self):
        return True


setup(cmdclass={"build_py": BuildPy, "bdist_wheel": PlatformWheel}, distclass=BinaryDistribution)
