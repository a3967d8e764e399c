"""What can be wrong with an installation or a process, each cause a function of its own.

They import no face of the package: that may be another project's, or unable to load its library.
"""

import ast
import ctypes
import os
import re
import shlex
from typing import (
    TYPE_CHECKING,
    Any,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Set,
    Tuple,
)

from .._http import secrets
from .._version import __version__
from .process import Library, Process

if TYPE_CHECKING:
    from importlib.metadata import PackagePath

DISTRIBUTION, PACKAGE = "libllmpool", "llmpool"
_FACE = f"{PACKAGE}/__init__.py"
MAX_CONNECTIONS = 100  # what a new pool has
# What a process has open beside its connections: files, logs, a listening socket, event loops.
_RESERVE = 32
_ENGINE_THREAD = "llmpool"
# In the order in which the library looks at them: PoolOptions, proxy.
_PROXIES = {
    "http": ("http_proxy", "all_proxy", "ALL_PROXY"),
    "https": ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
}
# Before 7.75 libcurl does not take the addresses that the pool has looked up.
OLDEST = {"libcurl": (7, 75), "libnghttp2": (1, 43)}


class Fact(NamedTuple):
    """What is there, whether good or bad."""

    name: str
    value: str
    where: str = ""


class Finding(NamedTuple):
    """What is wrong.

    Attributes:
        level: "error": calls fail; "warning": they may, or do not go where they seem to.
        name: of the check, for programs.
        what: and how it shows.
        advice: what to do.
    """

    level: str
    name: str
    what: str
    advice: str


# ---- versions


def loaded_versions(process: Process) -> List[Fact]:
    """Of the libraries below ours, as they say themselves. Of this process alone."""
    facts = []
    for name, function in (
        ("libcurl", "curl_version"),
        ("libnghttp2", "nghttp2_version"),
        ("libcrypto", "OpenSSL_version"),
    ):
        for library in process.libraries(name)[:1]:
            facts.append(Fact(name, _version(library, function), library.path))
    return facts


def _version(library: Library, function: str) -> str:
    try:
        call = ctypes.CDLL(library.path)[function]
    except (OSError, AttributeError):
        return "unknown"
    if function == "nghttp2_version":  # a struct: its age, its number, its version as text
        call.restype = ctypes.POINTER(ctypes.c_int)
        words = call(0)
        text = ctypes.c_char_p.from_address(ctypes.addressof(words.contents) + 8).value
    else:
        call.restype = ctypes.c_char_p
        text = call(0)
    return number_in((text or b"").decode("utf-8", "replace"))


def number_in(text: str) -> str:
    match = re.search(r"\d+(?:\.\d+)+\w*", text)
    return match.group() if match else "unknown"


def versions(facts: List[Fact]) -> Iterator[Finding]:
    for fact in facts:
        oldest = OLDEST.get(fact.name)
        numbers = tuple(map(int, re.findall(r"\d+", fact.value)[:2]))
        if oldest and numbers and numbers < oldest:
            wanted = ".".join(map(str, oldest))
            yield Finding(
                "warning",
                "versions",
                f"{fact.name} is {fact.value} ({fact.where}); the pool needs {wanted} or newer",
                f"Install {fact.name} {wanted}, or a wheel of {DISTRIBUTION} that brings its own.",
            )


# ---- the library


def library_loads() -> Iterator[Finding]:
    """Missing libraries, another version, a foreign OpenSSL: what ImportError says."""
    from .._native import library

    try:
        library.lib.version()
    except ImportError as error:
        foreign = "OpenSSL of its own" in str(error)
        yield Finding(
            "error",
            "foreign-openssl" if foreign else "library",
            f"import llmpool fails: {error}.",
            "Import llmpool first; if LD_PRELOAD names the file, leave it out."
            if foreign
            else f"Install {DISTRIBUTION} again, or name a library that fits by LLMPOOL_LIBRARY.",
        )


def copies(process: Process) -> Iterator[Finding]:
    found = process.libraries("libllmpool")
    if len(found) > 1:
        paths = ", ".join(library.path for library in found)
        yield Finding(
            "error",
            "copies",
            f"{len(found)} copies of libllmpool are loaded: {paths}. Each is a pool of its own, "
            "with its own connections, limits and counters.",
            "Have all of the process load one: C code links to libllmpool by its soname and is "
            "loaded first, or LLMPOOL_LIBRARY names the file that C code has.",
        )


# ---- distributions


def distributions() -> Iterator[Finding]:
    """Whether another project has written the package's files, by pip's list of each."""
    from importlib import metadata

    own: Dict[str, PackagePath] = {}
    others = []
    for distribution in metadata.distributions():
        if _FACE not in (distribution.read_text("RECORD") or ""):
            continue
        name = distribution.metadata["Name"] or ""
        files = {str(file): file for file in distribution.files or ()}
        if name.lower() == DISTRIBUTION:
            own = files
        elif _FACE in files:
            others.append((name, distribution.version))
    is_ours = _FACE not in own or _is_as_recorded(own[_FACE])
    again = f"pip install --force-reinstall --no-deps {DISTRIBUTION}"
    for name, version in others:
        gives = f"this one, until {name} is removed" if is_ours else f"{name}, installed last"
        yield Finding(
            "error",
            "distributions",
            f"The distribution {name} {version} has written {_FACE}, too. It is another project; "
            f"this one is {DISTRIBUTION}. What `import {PACKAGE}` gives is {gives}.",
            f"pip uninstall {name}, then {again}.",
        )
    if not others and not is_ours:
        yield Finding(
            "error",
            "distributions",
            f"{_FACE} is not what {DISTRIBUTION} has installed, or is gone, as it is once another "
            "project of that name has been removed.",
            f"{again}.",
        )


def _is_as_recorded(file: "PackagePath") -> bool:
    import base64
    import hashlib

    try:
        with open(file.locate(), "rb") as opened:
            content = opened.read()
    except OSError:
        return False
    if file.hash is None:
        return True
    digest = hashlib.new(file.hash.mode, content).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value


# ---- whom to trust


def authorities(environment: Mapping[str, str], defaults: Tuple[str, str]) -> "Store":
    """The CA store that the library reads.

    Args:
        defaults: where its OpenSSL looks by itself: a file, and directories with colons between.
    """
    file = environment.get("SSL_CERT_FILE", defaults[0])
    directories = environment.get("SSL_CERT_DIR", defaults[1])
    return Store(file, directories, certificates_in(file, directories))


class Store(NamedTuple):
    file: str
    directories: str
    certificates: int

    def findings(self, environment: Mapping[str, str]) -> Iterator[Finding]:
        named = environment.get("SSL_CERT_FILE")
        if named is not None and not _certificates_in_file(named):
            yield Finding(
                "error" if not self.certificates else "warning",
                "authorities",
                f"SSL_CERT_FILE names {named!r}, in which no certificate can be read.",
                "Correct it, or unset it: the system's store is used then.",
            )
        elif not self.certificates:
            yield Finding(
                "error",
                "authorities",
                f"There is no CA certificate, neither in {self.file} nor in {self.directories}: "
                "every call of https ends with CertificateError.",
                "apt-get install ca-certificates, or name a file by ca_file= or SSL_CERT_FILE.",
            )


def certificates_in(file: str, directories: str) -> int:
    count = _certificates_in_file(file)
    for directory in directories.split(":"):
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        count += sum(re.fullmatch(r"[0-9a-f]{8}\.[0-9]+", name) is not None for name in names)
    return count


def _certificates_in_file(path: str) -> int:
    try:
        with open(path, "rb") as file:
            return len(re.findall(rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----", file.read()))
    except OSError:
        return 0


def default_places(process: Process) -> Tuple[str, str]:
    """Where the OpenSSL that the library is linked to looks."""
    places = []
    for name in ("file", "dir"):
        place = b""
        for library in process.libraries("libcrypto")[:1]:
            function = ctypes.CDLL(library.path)[f"X509_get_default_cert_{name}"]
            function.restype = ctypes.c_char_p
            place = function() or b""
        places.append(os.fsdecode(place))
    return places[0], places[1]


# ---- proxies


def proxy_in_use(environment: Mapping[str, str], scheme: str) -> Optional[Tuple[str, str]]:
    """The variable that says which proxy calls of a scheme take, and what it says."""
    for name in _PROXIES[scheme]:
        if name in environment:
            return (name, environment[name]) if environment[name] else None
    return None


def proxy_facts(environment: Mapping[str, str]) -> List[Fact]:
    facts = []
    for scheme in _PROXIES:
        used = proxy_in_use(environment, scheme)
        if used:
            shown = _without_user(used[1])
            through = f"through {secrets.printable(shown)}"
            facts.append(Fact(f"{scheme}:// calls", through, f"by {used[0]}"))
    exempt = environment.get("no_proxy", environment.get("NO_PROXY"))
    if facts and exempt:
        shown = secrets.printable(secrets.text(exempt))
        facts.append(Fact("but not to", shown, "by no_proxy"))
    return facts


def _without_user(proxy: str) -> str:
    """Whatever stands before the host, which may be a password with any character in it."""
    user, at, host = proxy.rpartition("@")
    if not at:
        return secrets.text(proxy)
    scheme, mark, _ = user.partition("://")
    return f"{scheme}://{secrets.HIDDEN}@{host}" if mark else f"{secrets.HIDDEN}@{host}"


def proxies(environment: Mapping[str, str]) -> Iterator[Finding]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        lower, upper = environment.get(name), environment.get(name.upper())
        if lower is not None and upper is not None and lower != upper:
            yield Finding(
                "warning",
                "proxies",
                f"{name} and {name.upper()} say different things. The pool goes by {name}; other "
                "programs may go by the other.",
                "Set both to the same, or unset one.",
            )
    is_said = any(name in environment for name in _PROXIES["http"])
    if environment.get("HTTP_PROXY") and not is_said:
        yield Finding(
            "warning",
            "proxies",
            "HTTP_PROXY is set and http_proxy is not: calls of http:// go directly. Upper case is "
            "not read there, since in CGI programs it is what a request says.",
            "Set http_proxy.",
        )
    refused: Set[str] = set()
    for scheme in _PROXIES:
        used = proxy_in_use(environment, scheme)
        if used and used[0] not in refused:
            error = _refusal(used[1])
            if error:
                refused.add(used[0])
                yield Finding(
                    "error",
                    "proxies",
                    f"{used[0]} names a proxy that cannot be used: {error}.",
                    "It is http://, socks5:// or socks5h://, a host and a port.",
                )


def _refusal(url: str) -> str:
    """What the library says of a proxy; "": nothing."""
    from .._pool.pool import Pool

    try:
        Pool(proxy=url).close()
    except (ValueError, NotImplementedError) as error:
        return str(error)
    except ImportError:  # said by library_loads()
        pass
    return ""


# ---- processes


def descriptors(limit: int, connections: int) -> Iterator[Finding]:
    if 0 <= limit < connections + _RESERVE:
        yield Finding(
            "error" if limit < connections else "warning",
            "descriptors",
            f"A process may have {limit} descriptors open (RLIMIT_NOFILE), the pool "
            f"{connections} connections, and the rest of the process needs some, too: beyond that "
            "dials fail.",
            f"ulimit -n {max(1024, 4 * connections)}, LimitNOFILE= of systemd, or "
            f"Limits(max_connections={max(1, limit - _RESERVE)}).",
        )


_PRELOAD_ADVICE = (
    "The shared pool begins anew in each worker, with its options; what was warm is not. Make a "
    "Pool of your own in the worker (gunicorn: post_fork): the parent's raises ForkedPool there."
)


def preloads(environment: Mapping[str, str], directory: str) -> Iterator[Finding]:
    """Whether gunicorn, started here, would import the application before it forks."""
    sources = []
    try:
        if "--preload" in shlex.split(environment.get("GUNICORN_CMD_ARGS", "")):
            sources.append("GUNICORN_CMD_ARGS")
    except ValueError:  # an open quote
        pass
    path = os.path.join(directory, "gunicorn.conf.py")
    if _assigned(path, "preload_app"):
        sources.append(path)
    if sources:
        yield Finding(
            "warning",
            "preload",
            f"gunicorn imports the application before it forks ({' and '.join(sources)}).",
            _PRELOAD_ADVICE,
        )


def _assigned(path: str, name: str) -> Any:
    """What a Python file sets a name to last, where that is a constant; else None."""
    value = None
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return None
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            targets = [target.id for target in node.targets if isinstance(target, ast.Name)]
            value = node.value.value if name in targets else value
    return value


def forks(process: Process) -> Iterator[Finding]:
    """Whether children were forked off while the pool ran: its library is where it was."""
    if _ENGINE_THREAD not in process.threads():
        return
    own = set(process.libraries("libllmpool"))
    forked = []
    for child in process.children():
        try:
            if own & set(child.libraries("libllmpool")):
                forked.append(str(child.pid))
        except OSError:  # gone meanwhile
            continue
    if forked:
        yield Finding(
            "warning",
            "preload",
            f"Process {process.pid} has forked while its pool ran: {', '.join(forked)}.",
            _PRELOAD_ADVICE,
        )


def installed() -> List[Fact]:
    """What this process runs on."""
    import platform

    python = f"{platform.python_implementation()} {platform.python_version()}"
    from .._native import library

    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    facts = [Fact("python", python), Fact(PACKAGE, __version__, package)]
    if library.lib.path:
        number = library.lib.version()
        text = f"{number >> 16}.{number >> 8 & 0xFF}.{number & 0xFF}"
        facts.append(Fact("libllmpool", text, library.lib.path))
    return facts


def as_dict(items: "List[Any]") -> List[Dict[str, str]]:
    return [item._asdict() for item in items]
