"""Finds, checks and binds libllmpool."""

import ctypes
import os
import sys
from typing import Any, List, NoReturn

from . import abi, system

# Before 1.0 a minor version may change the C ABI, so that each has a soname of its own.
SONAME = f"libllmpool.so.{abi.VERSION_MAJOR}.{abi.VERSION_MINOR}"


def _fail(path: str, error: OSError) -> NoReturn:
    import re

    missing = re.match(r"(lib[^:\s]+): cannot open shared object file", str(error))
    if missing and os.path.basename(path) != missing.group(1):
        raise ImportError(f"llmpool needs {system.lacking(missing.group(1))} ({path})") from error
    raise ImportError(f"cannot load {path}: {error}") from error


def _open(path: str, mode: int) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(path, mode)
    except OSError as error:
        _fail(path, error)


def _find() -> ctypes.CDLL:
    """The library: the one in the process, else LLMPOOL_LIBRARY, else ours, else the system's.

    A second copy would be a second pool, which is why the one already loaded comes first, even
    before the environment variable.
    """
    mode = system.binding(SONAME)
    if system.is_loaded(SONAME):
        return ctypes.CDLL(SONAME)
    chosen = os.environ.get("LLMPOOL_LIBRARY")
    if chosen:
        return _open(chosen, mode)
    inside = os.path.join(os.path.dirname(os.path.dirname(__file__)), SONAME)
    if os.path.exists(inside):
        return _open(inside, mode)
    try:
        return ctypes.CDLL(SONAME, mode)
    except OSError as error:
        if str(error).startswith(f"{SONAME}: cannot open shared object file"):
            raise ImportError(
                f"{SONAME} was not found: neither loaded in this process, nor named by "
                f"LLMPOOL_LIBRARY, nor at {inside}, nor where the system's loader looks"
            ) from error
        _fail(SONAME, error)


def _check_version(functions: abi.Functions, path: str) -> None:
    version = functions.version()
    found = (version >> 16, version >> 8 & 0xFF, version & 0xFF)
    wanted = (abi.VERSION_MAJOR, abi.VERSION_MINOR)
    # Before 1.0 a minor version may change the ABI; afterwards it only adds to it.
    fits = found[0] == wanted[0] and (
        found[1] == wanted[1] if wanted[0] == 0 else found[1] >= wanted[1]
    )
    if not fits:
        raise ImportError(
            f"{path} is libllmpool {found[0]}.{found[1]}.{found[2]}, but this llmpool package "
            f"needs {wanted[0]}.{wanted[1]}"
        )


def load() -> abi.Functions:
    """Finds, checks and binds the library. ImportError says what is wrong, and with which file."""
    library = _find()
    path = library._name
    try:
        path = system.file_of(library["llmpool_version"]) or path
        functions = abi.Functions(library, ctypes.PyDLL(library._name, handle=library._handle))
    except AttributeError as error:
        raise ImportError(f"{path} is not a libllmpool that fits: {error}") from error
    _check_version(functions, path)
    functions.path = path
    return functions


class _Missing:
    """In the place of a library that cannot be loaded: each of its functions says why."""

    path = ""

    def __init__(self, error: ImportError) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def refuse(*_: object) -> NoReturn:
            raise self._error

        return refuse


def _is_doctor() -> bool:
    """Whether this is "python -m llmpool doctor", or llmpool-doctor, which say themselves what is
    wrong: Python imports the package before the first."""
    if "libllmpool_doctor" in sys.modules:
        return True
    if sys.argv[:2] != ["-m", "doctor"]:  # as it is while a package is imported for its __main__
        return False
    try:
        with open("/proc/self/cmdline", "rb") as file:
            said = file.read()
    except OSError:
        return False
    return b"llmpool\0doctor\0" in said


def _load() -> Any:
    try:
        return load()
    except ImportError as error:
        if not _is_doctor():
            raise
        return _Missing(error)


lib: abi.Functions = _load()


def last_error() -> str:
    """What was wrong with this thread's last failed call."""
    return lib.last_error().decode("utf-8", "replace")


def loaded_from() -> str:
    """The path of the libllmpool in use."""
    return lib.path


__all__: List[str] = ["SONAME", "last_error", "lib", "load", "loaded_from"]
