"""The processes that top and advise look at: which ones, and how it is said that there are none."""

import sys
from typing import Any, Dict, Iterable, List, Optional

from .._pool import processes
from .._pool.processes import Reading, Unread
from .arguments import Parser, from_1

_WHICH = f"""\
Processes are seen that serve their statistics: those with {processes.VARIABLE}
in their environment, a directory of yours, or that call
llmpool.serve_stats(directory). They are asked, and notice nothing of it.
"""


class Source:
    """Reads the processes of a directory.

    Raises:
        ValueError: no directory is given, or it cannot be read.
    """

    def __init__(self, directory: Optional[str], pid: Optional[int]) -> None:
        self.directory = processes.directory_of(directory)
        self._pid = pid

    def read(self) -> Reading:
        try:
            return processes.read(self.directory, self._pid)
        except OSError as error:
            raise ValueError(f"{self.directory}: {error.strerror}") from None

    @property
    def nobody(self) -> str:
        """What is said where no process answers."""
        which = "no process serves" if self._pid is None else f"process {self._pid} does not serve"
        return f"{which} its statistics in {self.directory}"


def parser_of(command: str, about: str, statuses: str) -> Parser:
    parser = Parser(
        prog=f"python -m llmpool {command}",
        description=f"{about}\n{_WHICH}",
        epilog=statuses,
    )
    add = parser.add_argument
    add("--dir", metavar="DIRECTORY", help=f"where the processes are [${processes.VARIABLE}]")
    add("--pid", type=from_1, metavar="N", help="this process alone")
    add("--json", action="store_true", help="for programs, times in milliseconds")
    return parser


def sentence(unread: Unread) -> str:
    return f"process {unread.pid}: {unread.why}"


def tell_unread(command: str, unread: Iterable[Unread]) -> None:
    for each in unread:
        print(f"llmpool {command}: {sentence(each)}", file=sys.stderr)


def as_list(unread: Iterable[Unread]) -> List[Dict[str, Any]]:
    """For programs."""
    return [each._asdict() for each in unread]
