"""What libllmpool takes from the system, and how it stands beside what a process brings along."""

import ctypes
import os
from typing import NamedTuple

_RTLD_NOLOAD = 4  # Linux; the os module has it only where the C library declares it


class Packages(NamedTuple):
    """Who brings a library."""

    debian: str  # Ubuntu's as well
    rhel: str  # Fedora's and Amazon Linux's as well


# All that the library links to but glibc.
PACKAGES = {
    "libcurl.so.4": Packages("libcurl4", "libcurl"),
    "libnghttp2.so.14": Packages("libnghttp2-14", "libnghttp2"),
    "libssl.so.3": Packages("libssl3", "openssl-libs"),
    "libcrypto.so.3": Packages("libssl3", "openssl-libs"),
    "libstdc++.so.6": Packages("libstdc++6", "libstdc++"),
    "libgcc_s.so.1": Packages("libgcc-s1", "libgcc"),
}
# A function of each of OpenSSL's two libraries.
_OPENSSL = ("SSL_CTX_new", "BIO_new")
# Every allocator has it, and no interpreter calls it: what an executable calls, as malloc, may have
# its address in the executable (an entry of its procedure linkage table), as with Debian's Python.
_ALLOCATES = "aligned_alloc"


class _DlInfo(ctypes.Structure):
    _fields_ = [
        ("dli_fname", ctypes.c_char_p),
        ("dli_fbase", ctypes.c_void_p),
        ("dli_sname", ctypes.c_char_p),
        ("dli_saddr", ctypes.c_void_p),
    ]


def file_of(function: object) -> str:
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


def is_loaded(name: str) -> bool:
    try:
        ctypes.CDLL(name, mode=_RTLD_NOLOAD)
    except OSError:
        return False
    return True


def lacking(first: str) -> str:
    """What to install where the loader has not found a library.

    The loader names the first that is missing; here all are, so that one command mends it.
    """
    names = [first] + [name for name in PACKAGES if name != first and not _is_there(name)]
    text = f"{' and '.join(names)}, which this system lacks"
    known = [PACKAGES[name] for name in names if name in PACKAGES]
    if known:
        debian = " ".join(dict.fromkeys(packages.debian for packages in known))
        rhel = " ".join(dict.fromkeys(packages.rhel for packages in known))
        text += (
            f"; on Debian and Ubuntu: apt install {debian}; "
            f"on RHEL, Fedora and Amazon Linux: dnf install {rhel}"
        )
    return text


def _is_there(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError as error:
        return not str(error).startswith(f"{name}: cannot open shared object file")
    return True


def foreign_openssl() -> str:
    """The file whose OpenSSL would take the calls of a library that is loaded now, or "".

    Some Python builds link OpenSSL statically and export it, python-build-standalone's among them,
    which uv installs. The loader looks in the executable first, so that the library would run on a
    foreign OpenSSL with foreign structs.
    """
    for function in _OPENSSL:
        taken = _file_with(function)
        # OpenSSL's own, whatever its name: auditwheel puts libssl-59d05945.so.3 into a wheel.
        if taken and not _is_openssl_3(taken):
            return taken
    return ""


def _file_with(function: str) -> str:
    try:
        return file_of(ctypes.CDLL(None)[function])
    except AttributeError:
        return ""


def _is_openssl_3(path: str) -> bool:
    name = os.path.basename(path)
    own = ("libssl.", "libssl-", "libcrypto.", "libcrypto-")
    return name.startswith(own) and ".so.3" in name


def binding(name: str) -> int:
    """The mode in which to load a library that needs OpenSSL: deep, where a foreign one is.

    Args:
        name: its soname.

    Raises: ImportError, where it or what it needs has been loaded before, and the foreign OpenSSL
        has taken its calls; beside a foreign malloc, since what the C library has allocated with
        that the library would free with the C library's.
    """
    foreign = foreign_openssl()
    if not foreign:
        return ctypes.DEFAULT_MODE
    needed = (name, "libcurl.so.4", "libssl.so.3", "libcrypto.so.3")
    early = [each for each in needed if is_loaded(each)]
    if early:
        raise ImportError(
            f"{foreign} exports an OpenSSL of its own, which takes the calls of "
            f"{' and '.join(early)}, loaded before llmpool: import llmpool first"
        )
    allocator = _file_with(_ALLOCATES)
    if allocator != file_of(ctypes.CDLL("libc.so.6")[_ALLOCATES]):
        raise ImportError(
            f"{foreign} exports an OpenSSL of its own and {allocator} a malloc, and llmpool runs "
            "beside one of them at most: if LD_PRELOAD names either, leave it out"
        )
    _hand_over_environment()
    return os.RTLD_DEEPBIND


def _hand_over_environment() -> None:
    """A program that reads `environ` may have a copy of its own, which the C library goes by then.

    What is bound deeply sees the C library's, which nobody has set; Swift's runtime reads it as it
    is loaded.
    """
    unset = ctypes.c_void_p.in_dll(ctypes.CDLL("libc.so.6"), "environ")
    if not unset.value:
        unset.value = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "environ").value
