"""Finds, checks and binds libllmpool."""

import ctypes
import os
import sys
from typing import Any, List, NoReturn, Optional

from . import abi

# Before 1.0 a minor version may change the C ABI, so that each has a soname of its own.
SONAME = f"libllmpool.so.{abi.VERSION_MAJOR}.{abi.VERSION_MINOR}"
RTLD_NOLOAD = 4  # Linux; the os module has it only where the C library declares it

# What the library links to, and who brings it on Debian and Ubuntu.
DEBIAN_PACKAGES = {
    "libcurl.so.4": "libcurl4",
    "libnghttp2.so.14": "libnghttp2-14",
    "libssl.so.3": "libssl3",
    "libcrypto.so.3": "libssl3",
    "libstdc++.so.6": "libstdc++6",
    "libgcc_s.so.1": "libgcc-s1",
}


class _DlInfo(ctypes.Structure):
    _fields_ = [
        ("dli_fname", ctypes.c_char_p),
        ("dli_fbase", ctypes.c_void_p),
        ("dli_sname", ctypes.c_char_p),
        ("dli_saddr", ctypes.c_void_p),
    ]


def _file_of(function: object) -> str:
    """The file that a loaded function lies in, or ""."""
    try:
        dladdr = ctypes.CDLL(None).dladdr
    except AttributeError:
        return ""
    dladdr.argtypes = (ctypes.c_void_p, ctypes.POINTER(_DlInfo))
    info = _DlInfo()
    address = ctypes.cast(function, ctypes.c_void_p)  # type: ignore[arg-type]
    if not dladdr(address, ctypes.byref(info)):
        return ""
    return os.fsdecode(info.dli_fname or b"")


def _already_loaded() -> Optional[ctypes.CDLL]:
    try:
        return ctypes.CDLL(SONAME, mode=RTLD_NOLOAD)
    except OSError:
        return None


def _fail(path: str, error: OSError) -> NoReturn:
    import re

    missing = re.match(r"(lib[^:\s]+): cannot open shared object file", str(error))
    if missing and os.path.basename(path) != missing.group(1):
        name = missing.group(1)
        package = DEBIAN_PACKAGES.get(name)
        advice = f"; on Debian and Ubuntu: apt install {package}" if package else ""
        raise ImportError(
            f"llmpool needs {name}, which this system lacks{advice} ({path})"
        ) from error
    raise ImportError(f"cannot load {path}: {error}") from error


def _open(path: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(path)
    except OSError as error:
        _fail(path, error)


def _find() -> ctypes.CDLL:
    """The library: the one in the process, else LLMPOOL_LIBRARY, else ours, else the system's.

    A second copy would be a second pool, which is why the one already loaded comes first, even
    before the environment variable.
    """
    library = _already_loaded()
    if library is not None:
        return library
    chosen = os.environ.get("LLMPOOL_LIBRARY")
    if chosen:
        return _open(chosen)
    inside = os.path.join(os.path.dirname(os.path.dirname(__file__)), SONAME)
    if os.path.exists(inside):
        return _open(inside)
    try:
        return ctypes.CDLL(SONAME)
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


def _check_openssl(library: ctypes.CDLL, path: str) -> None:
    """Refuses a process whose own OpenSSL would take the library's calls.

    Some Python builds link OpenSSL statically and export it. The loader looks in the executable
    first, so that the library would run on a foreign OpenSSL with foreign structs.
    """
    taken, linked = (_file_with_openssl(scope) for scope in (ctypes.CDLL(None), library))
    name = os.path.basename(taken)
    # The one it links to, whatever its name: auditwheel puts libssl-59d05945.so.3 into a wheel.
    # Or else a libssl of the same soname, as of the system beside the one of such a wheel.
    if taken in ("", linked) or (name.startswith(("libssl.", "libssl-")) and ".so.3" in name):
        return
    raise ImportError(
        f"{taken} exports an OpenSSL of its own, which would take the calls that {path} "
        "makes to libssl.so.3: use a Python that links OpenSSL dynamically"
    )


def _file_with_openssl(scope: ctypes.CDLL) -> str:
    try:
        return _file_of(scope["SSL_CTX_new"])
    except AttributeError:
        return ""


def load(library: Optional[ctypes.CDLL] = None) -> abi.Functions:
    """Finds, checks and binds the library. ImportError says what is wrong, and with which file."""
    library = library or _find()
    path = library._name
    try:
        path = _file_of(library["llmpool_version"]) or path
        functions = abi.Functions(library, ctypes.PyDLL(library._name, handle=library._handle))
    except AttributeError as error:
        raise ImportError(f"{path} is not a libllmpool that fits: {error}") from error
    _check_version(functions, path)
    _check_openssl(library, path)
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
    """Whether this is "python -m llmpool doctor", which says itself what is wrong: Python imports
    the package before it."""
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
