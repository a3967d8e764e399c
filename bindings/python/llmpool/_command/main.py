"""Which command is meant, and how each ends."""

import os
import sys
from importlib import import_module
from typing import List

_USAGE = """\
usage: python -m llmpool COMMAND [ARG...]

  run PROGRAM   runs a program with llmpool under its httpx and httpx2 clients
  probe URL     shows where the time of a call goes, cold and warm
  bench URL     puts load on a server, and shows how long its answers take
  doctor        looks for what is wrong with this machine's llmpool
  top           shows the pools of running processes, as they are at work
  advise        says which setting of running pools to change, and why
  fleet         shows the budgets that processes share, and who has what

python -m llmpool COMMAND --help says more of each. python -m llmpool.mock is a
server to try them with.
"""
COMMANDS = ("run", "probe", "bench", "doctor", "top", "advise", "fleet")
INTERRUPTED = 128 + 2  # as a shell says of a program that SIGINT has ended


def main(arguments: List[str]) -> int:
    """The exit status of the process."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE, end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"llmpool: no command {name!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        status: int = import_module(f".{name}", __package__).main(rest)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print(f"llmpool {name}: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Who read the output has left, as head does. Python would say so at exit once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
