"""What the kernel says of a process of this machine."""

import os
import re
from typing import Dict, List, NamedTuple, Set, Tuple

from .._http.secrets import printable


class Library(NamedTuple):
    """A file that a process has loaded.

    Attributes:
        path: as the process knows it.
        file: device and inode: the same file has the same, whatever its path.
        address: where it begins in the process's memory.
    """

    path: str
    file: Tuple[str, str]
    address: str


class Process:
    """A process, this one or another.

    Args:
        pid: 0: this one.

    Raises, from every method: OSError, where it is not there or belongs to somebody else.
    """

    def __init__(self, pid: int = 0) -> None:
        self.pid = pid
        self._directory = f"/proc/{pid or 'self'}"

    def name(self) -> str:
        return printable(self._read("comm").decode("utf-8", "replace").strip())

    def libraries(self, name: str) -> List[Library]:
        """The files that are loaded whose name begins with this, each once.

        Args:
            name: without ".so", as "libssl".
        """
        found: Dict[Tuple[str, str], Library] = {}
        pattern = re.compile(rf"{re.escape(name)}(?:[-.].*)?\.so\b")
        for line in filter(None, os.fsdecode(self._read("maps")).split("\n")):
            address, _, _, device, inode, *path = line.split(None, 5)
            if path and pattern.match(os.path.basename(path[0])):
                plain = path[0].replace(" (deleted)", "")
                found.setdefault((device, inode), Library(plain, (device, inode), address))
        return list(found.values())

    def environment(self) -> Dict[str, str]:
        """As it was when the process began; of this one as it is."""
        if not self.pid:
            return dict(os.environ)
        pairs = os.fsdecode(self._read("environ")).split("\0")
        return dict(pair.split("=", 1) for pair in pairs if "=" in pair)

    def descriptors(self) -> int:
        """How many it may have open: the soft limit, RLIMIT_NOFILE; -1: any number."""
        match = re.search(rb"Max open files\s+(\S+)", self._read("limits"))
        return -1 if match is None or match[1] == b"unlimited" else int(match[1])

    def threads(self) -> Set[str]:
        """Their names, of at most 15 bytes."""
        names = set()
        for thread in os.listdir(f"{self._directory}/task"):
            try:
                names.add(self._read(f"task/{thread}/comm").decode("utf-8", "replace").strip())
            except OSError:  # it has ended meanwhile
                continue
        return names

    def children(self) -> "List[Process]":
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    # Behind the name in brackets, which may hold anything: state, parent.
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue
            if parent == (self.pid or os.getpid()):
                found.append(Process(int(name)))
        return found

    def _read(self, name: str) -> bytes:
        with open(f"{self._directory}/{name}", "rb") as file:
            return file.read()
