#!/usr/bin/env python3
"""check_readme.py PYTHON SOURCES c PREFIX | python | swift SWIFTC MODULES OBJECTS - the program of the README in that
language, as printed: it builds without a warning, and has its answer from the mock LLM. PYTHON is as for check_example.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from check_example import KEY, enter

LIMIT = 120  # seconds, of the compiler and of the program
ANSWER = "The pool keeps one connection"


def printed(sources, language, must_have):
    """The text of the README's only block in that language."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", (Path(sources) / "README.md").read_text(), re.M | re.S)
    assert len(blocks) == 1 and must_have in blocks[0], (language, len(blocks))
    return blocks[0]


def run(*command, **environment):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=LIMIT,
        env={**os.environ, **environment},
    )  # fmt: skip
    print(done.stdout + done.stderr)
    return done


def compiled(*command):
    done = run(*command)
    assert done.returncode == 0 and not done.stderr, done.stderr


def build_c(sources, directory, prefix):
    program = printed(sources, "c", "int main")
    assert program.count("\n") <= 40
    (directory / "readme.c").write_text(program)
    (library,) = Path(prefix).rglob("libllmpool.so")
    compiled(
        "cc", "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{prefix}/include", directory / "readme.c",
        f"-L{library.parent}", "-lllmpool", f"-Wl,-rpath,{library.parent}", "-o", directory / "program",
    )  # fmt: skip
    return [directory / "program"]


def build_python(sources, directory):
    (directory / "readme.py").write_text(printed(sources, "python", "import llmpool"))
    return [sys.executable, directory / "readme.py"]


def build_swift(sources, directory, swiftc, modules, objects):
    (directory / "main.swift").write_text(printed(sources, "swift", "import LLMPool"))
    compiled(
        swiftc, "-swift-version", "6", "-use-ld=lld", "-I", modules, "-I", f"{sources}/Sources/CLLMPoolSystem/include",
        "-I", f"{sources}/include",
        directory / "main.swift", f"@{objects}", "-lcurl", "-lnghttp2", "-lssl", "-lcrypto",
        "-o", directory / "program",
    )  # fmt: skip
    return [directory / "program"]


def main():
    if sys.argv[1] != "--inside":
        enter(sys.argv[1], __file__)
    from llmpool.mock import MockServer

    sources, language, *rest = sys.argv[2:]
    with tempfile.TemporaryDirectory() as directory, MockServer(tls=False) as server:
        command = globals()[f"build_{language}"](sources, Path(directory), *rest)
        done = run(*command, OPENAI_BASE_URL=server.url + "/v1", OPENAI_API_KEY=KEY)
        assert done.returncode == 0 and ANSWER in done.stdout and not done.stderr
        with socket.socket() as bound:  # nobody listens there: it says so and fails, and does not crash
            bound.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
            done = run(*command, OPENAI_BASE_URL=url, OPENAI_API_KEY=KEY)
        assert done.returncode != 0 and "connect" in done.stderr.lower()
        assert language == "swift" or done.returncode == 1  # an error that leaves main.swift is a trap


if __name__ == "__main__":
    main()
