"""The processes of this machine that say how their pools are: in a directory each has a Unix stream
socket PID.sock, and whoever connects gets one JSON document (docs/monitoring.md).
"""

import errno
import json
import os
import re
import socket
from time import monotonic
from typing import List, NamedTuple, Optional, Tuple, Union

from .snapshots import Snapshot, snapshot_of

VARIABLE = "LLMPOOL_STATS_DIR"
_SOCKET = re.compile(r"([1-9][0-9]*)\.sock", re.ASCII)
_PATIENCE = 2.0  # seconds for each process
_LARGEST = 256 << 20  # a process with 200 origins has some 2 MiB to say
_AT_ONCE = 16
# A socket that nobody listens at is what a process that was killed has left.
_GONE = (errno.ECONNREFUSED, errno.ENOENT, errno.ENOTSOCK)


class Unread(NamedTuple):
    """A process that is there, and could not be read."""

    pid: int
    why: str


class Reading(NamedTuple):
    """
    Attributes:
        processes: by their ids.
        unread: those that took too long, or said what is not understood.
    """

    processes: Tuple[Snapshot, ...]
    unread: Tuple[Unread, ...]


def directory_of(given: Union[str, "os.PathLike[str]", None]) -> str:
    """The directory that is given, or the environment's.

    Raises:
        ValueError: neither is.
    """
    found = os.environ.get(VARIABLE, "") if given is None else os.fspath(given)
    if not found:
        raise ValueError(
            f"which processes? {VARIABLE} is not set; it names the directory in which processes "
            "serve their statistics, and they need it, too (docs/monitoring.md)"
        )
    return found


def read(directory: str, pid: Optional[int] = None) -> Reading:
    """What the processes say now, all asked at once; a dead socket is passed over.

    Args:
        pid: of this process alone.

    Raises:
        OSError: the directory cannot be read.
    """
    pids = sorted(int(match[1]) for match in map(_SOCKET.fullmatch, os.listdir(directory)) if match)
    wanted = [each for each in pids if pid in (None, each)]
    if len(wanted) < 2:
        answers = [_ask(directory, each) for each in wanted]
    else:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(_AT_ONCE, len(wanted))) as executor:
            answers = list(executor.map(lambda each: _ask(directory, each), wanted))
    return Reading(
        tuple(answer for answer in answers if isinstance(answer, Snapshot)),
        tuple(answer for answer in answers if isinstance(answer, Unread)),
    )


def _ask(directory: str, pid: int) -> Union[Snapshot, Unread, None]:
    try:
        found = snapshot_of(json.loads(_document(directory, pid)))
    except socket.timeout:  # TimeoutError itself, from Python 3.10 on
        return Unread(pid, f"it did not answer within {_PATIENCE:g} s")
    except OSError as error:
        if error.errno in _GONE:
            return None
        return Unread(pid, error.strerror or str(error))
    except (ValueError, RecursionError) as error:
        return Unread(pid, str(error))
    # The id by which it is known here: in a container it may know itself by another.
    return found._replace(pid=pid)


def _document(directory: str, pid: int) -> bytes:
    deadline = monotonic() + _PATIENCE
    pieces: List[bytes] = []
    size = 0
    # Through a descriptor: the name of a Unix socket has at most 107 bytes.
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_PATIENCE)
            connection.connect(f"/proc/self/fd/{place}/{pid}.sock")
            while True:
                connection.settimeout(max(0.001, deadline - monotonic()))
                piece = connection.recv(1 << 20)
                if not piece:
                    return b"".join(pieces)
                pieces.append(piece)
                size += len(piece)
                if size > _LARGEST:
                    raise ValueError(f"its document is larger than {_LARGEST >> 20} MiB")
    finally:
        os.close(place)
