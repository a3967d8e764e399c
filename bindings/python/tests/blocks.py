"""The code blocks of the documentation, and what it is to run one.

Its language decides what is done with a block: see Runner. One without a language is text. HTML
comments right above a block, which no reader sees, say what else there is to know:

    <!-- after: above -->       the blocks above it on the page, of its language, come before it
    <!-- after: CODE -->        so does this code, of one line or more
    <!-- run by: FILE -->       a file of the repository that runs what it says
    <!-- not run: WHY -->       why nobody can
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import servers

from llmpool._native.library import lib

ROOT = Path(__file__).resolve().parents[3]
LIMIT = 60  # seconds, of one block
COMMENT = r"^<!--(?:(?!-->).)*-->\n\s*"
BLOCK = re.compile(rf"((?:{COMMENT})*)^ *```(\w*)\n(.*?)^ *```$", re.M | re.S)
SAID = re.compile(r"<!-- (after|run by|not run):\s(.*?)\s*-->", re.S)
# Servers whose place the mock takes; of all others a block may name none that exists.
PLAYED = re.compile(r"https://api\.(?:openai|anthropic)\.com(?::443)?|http://127\.0\.0\.1:8080")
SERVER = re.compile(r"(?:https?|rediss?)://(?:[^/\s@'\"]*@)?([\w.-]+)")
HARMLESS = re.compile(r"127\.0\.0\.1$|localhost$|(?:.*\.)?example(?:\.com)?$|.*\.(?:invalid|test)$")
# What a line for a shell may begin with; any other command is for something else to run.
COMMANDS = re.compile(r"(?:\w+=\S+ )*(?:python -m llmpool\b|export \w+=|#|$)")
# What a line leaves in the background is a server, on port 8080.
SERVES = """until (: <>/dev/tcp/127.0.0.1/{port}) 2>/dev/null; do kill -0 $!; sleep 0.1; done\n"""
# What a fragment of C or Swift may leave out, as every program has it; one of Python, the import.
C_FRAGMENT = """#include <llmpool.h>
static void fragment(llmpool_t *pool, llmpool_queue_t *queue, llmpool_options_t options,
                     llmpool_request_t request, const char *url, uint64_t id) {
  {
"""
SWIFT_FRAGMENT = "import LLMPool\nfunc fragment(_ pool: Pool) async throws {\n"
FILES = {"my_program.py": "print('the program ran')\n"}  # that blocks for a shell may name


@dataclass
class Block:
    page: str
    line: int
    language: str
    text: str
    before: str = ""  # code
    run_by: str = ""
    not_run: str = ""

    @property
    def whole(self):
        return self.before + self.text

    def __str__(self):
        return f"{self.page}:{self.line}:{self.language}"


def commands_of(block):
    """The programs of a block for a shell, each with the word that says what it is to do."""
    for line in block.text.replace("\\\n", " ").splitlines():
        for command in re.sub(r"(^|\s)#.*", "", line).split(" && "):
            words = re.sub(
                r"^(?:\w+=\S+ )+|\bpython -m (?:llmpool\b)?", "", command.strip()
            ).split()
            plain = [word for word in words[1:2] if re.fullmatch(r"[\w-]+", word)]
            yield words[:1] + [word for word in plain if not word.startswith("-")]


def not_run_by(block, text):
    """Commands that a file which is said to run a block does not have; it may read the page."""
    if block.language != "sh" or Path(block.page).name in text:
        return []
    return [words for words in commands_of(block) if not all(word in text for word in words)]


class Missing(Exception):
    """What a block needs and this machine has not."""


def blocks_of(page, text):
    """The blocks of a page that have a language."""
    found = []
    for match in BLOCK.finditer(text):
        comments, language, code = match.groups()
        line = text.count("\n", 0, match.end(1)) + 1
        block = Block(page, line, language, textwrap.dedent(code))
        said = SAID.findall(comments)
        assert len(said) == comments.count("<!--"), f"{block}: not understood: {comments}"
        for kind, what in said:
            if kind == "run by":
                block.run_by = what
            elif kind == "not run":
                block.not_run = what
            elif what == "above":
                block.before += "".join(b.whole for b in found if b.language == language)
            else:
                block.before += what + "\n"
        if language:
            found.append(block)
    return found


class Runner:
    """Runs blocks in a directory, against a mock LLM."""

    def __init__(self, directory, mock):
        self.directory, self.mock = Path(directory), mock
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": servers.python_path(),
        }
        for name, path in (("OPENAI", "/v1"), ("ANTHROPIC", "")):
            self.environment[f"{name}_BASE_URL"] = mock.url + path
            self.environment[f"{name}_API_KEY"] = mock.api_key
        for name, text in FILES.items():
            (self.directory / name).write_text(text)

    def run(self, block):
        """AssertionError where it fails, Missing where it cannot be tried here."""
        text = PLAYED.sub(self.mock.url, block.whole)
        foreign = [name for name in SERVER.findall(text) if not HARMLESS.match(name)]
        assert not foreign, f"it may call {foreign}"
        runner = getattr(self, f"run_{block.language}", None)
        assert runner, f"nothing here runs {block.language}: see tests/blocks.py"
        runner(text)

    def run_python(self, text):
        if not re.search(r"^(?:import|from) llmpool\b", text, re.M):
            text = "import llmpool\n" + text
        for name in re.findall(r"^(?:import|from) (\w+)", text, re.M):
            if find_spec(name) is None:
                raise Missing(f"the module {name}")
        self.command(sys.executable, self.file("block.py", text))

    def run_c(self, text):
        if not shutil.which("cc"):
            raise Missing("a C compiler")
        is_program = re.search(r"^int main\b", text, re.M)
        if not is_program:
            text = C_FRAGMENT + text + "  }\n}\n"
        flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{ROOT}/include"]
        source, program = self.file("block.c", text), self.directory / "block"
        if not is_program:
            self.command("cc", *flags, "-Wno-unused", "-fsyntax-only", source)
            return
        library = Path(lib.path)
        found = f"-Wl,-rpath,{library.parent}"
        self.command("cc", *flags, source, library, found, "-o", program)
        self.command(program)

    def run_swift(self, text):
        """Types alone: a program would need the module's object files as well."""
        if not os.environ.get("LLMPOOL_LONG_TESTS"):
            raise Missing("LLMPOOL_LONG_TESTS")
        swift = shutil.which("swiftc") or shutil.which("/opt/swift/usr/bin/swiftc")
        modules = next(ROOT.glob("build/swift/*/release/Modules"), None)
        if not swift or not modules:
            raise Missing("Swift, and the modules that scripts/build leaves")
        headers = (ROOT / "Sources/CLLMPoolSystem/include", ROOT / "include")
        places = [word for place in (modules, *headers) for word in ("-I", place)]
        if "import LLMPool" not in text:
            text = f"{SWIFT_FRAGMENT}{text}}}\n"
        source = self.file("main.swift", text)  # so named its statements are the program
        self.command(swift, "-typecheck", "-swift-version", "6", *places, source)

    def run_sh(self, text):
        joined = text.replace("\\\n", " ").splitlines()
        others = [line for line in joined if not COMMANDS.match(line.strip())]
        assert not others, f"commands that nothing here runs: {others}"
        if any(name.endswith(".example") for name in SERVER.findall(text)):
            raise Missing("a server that is an example")
        port = servers.free_port()
        text = text.replace(" 8080", f" {port}")
        if re.search(r"&$", text, re.M):
            text += SERVES.format(port=port)
        self.command("bash", "-e", self.file("block.sh", text))

    def run_json(self, text):
        json.loads(text)

    def run_yaml(self, text):
        try:
            import yaml
        except ImportError:
            raise Missing("PyYAML") from None
        yaml.safe_load(text)

    def file(self, name, text):
        path = self.directory / name
        path.write_text(text)
        return path

    def command(self, *words):
        output = self.directory / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [str(word) for word in words], cwd=self.directory, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not over after {LIMIT} s: {output.read_text()}") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it left in the background, too
            process.wait()
        said = output.read_text()
        assert process.returncode == 0, f"exit status {process.returncode}: {said}"
