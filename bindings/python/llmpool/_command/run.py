"""python -m llmpool run PROGRAM [ARG...]"""

import os
import shutil
import subprocess
import sys
from typing import List, NoReturn

_USAGE = """\
usage: python -m llmpool run PROGRAM [ARG...]
       python -m llmpool run -m MODULE [ARG...]

Runs a program with llmpool under its httpx and httpx2 clients, as
llmpool.install() puts it there, and all that it starts with the same Python
packages. PROGRAM is a file of Python, or a command such as uvicorn.
LLMPOOL_INSTALL=0 in the environment runs it without.
"""


def command_of(program: List[str]) -> List[str]:
    """What is to be executed.

    Raises:
        FileNotFoundError: there is no such program.
    """
    name = program[0]
    if name in ("-m", "-c") or name.endswith((".py", ".pyz", ".pyw")):
        return [*python(), *program]
    # Not every directory: where one has the name of a command, the command is meant.
    if os.path.isfile(os.path.join(name, "__main__.py")):
        return [*python(), *program]
    # A virtual environment that is not active has its commands beside its Python.
    beside = os.path.dirname(sys.executable)
    found = shutil.which(name, path=os.pathsep.join((beside, os.environ.get("PATH", os.defpath))))
    if found is not None:
        return [found, *program[1:]]
    if os.path.exists(name):
        return [*python(), *program]
    raise FileNotFoundError(name)


def python() -> List[str]:
    """This interpreter, with the options that it was given itself."""
    # No other place knows how they are written; multiprocessing has it from there, too.
    options = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    if getattr(sys.stdout, "write_through", False):
        options.append("-u")
    return [sys.executable, *options]


def environment() -> "dict[str, str]":
    """This one, in which every Python finds sitecustomize.py."""
    from .. import _run

    (here,) = _run.__path__
    given = os.environ.get("PYTHONPATH")
    # One that is empty is the working directory.
    paths = [here, *(path for path in (given.split(os.pathsep) if given else ()) if path != here)]
    return {"LLMPOOL_INSTALL": "1", **os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def main(arguments: List[str]) -> NoReturn:
    """What stands behind "run" is the program's, its -h too, but for the first."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE, end="", file=sys.stdout if arguments else sys.stderr)
        sys.exit(0 if arguments else 2)
    if arguments[0].startswith("-") and arguments[0] not in ("-m", "-c"):
        print("llmpool run: a program, -m MODULE or -c CODE stands first", file=sys.stderr)
        sys.exit(2)
    if sys.flags.ignore_environment or sys.flags.no_site:
        print(
            "llmpool run: not with python -E, -I or -S: it needs PYTHONPATH and sitecustomize",
            file=sys.stderr,
        )
        sys.exit(2)
    try:
        command = command_of(arguments)
        os.execve(command[0], command, environment())
    except OSError as error:
        print(f"llmpool run: {arguments[0]}: {error.strerror or 'not found'}", file=sys.stderr)
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)
