"""What a command calls: the arguments that probe and bench share."""

import argparse
import ipaddress
import os
import re
import sys
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import llmpool

from .._http import secrets
from .._http.exceptions import InvalidURL, LocalProtocolError, UnsupportedProtocol
from .._http.urls import URL, resolve
from .arguments import above_0

# What a request that cannot be made ends with, and what arguments do: nothing was sent.
UNSENDABLE = (InvalidURL, UnsupportedProtocol, LocalProtocolError)
REFUSED = (*UNSENDABLE, ValueError, NotImplementedError, OSError)
_REFERENCE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")
_FILE = re.compile(r"(?:^|(?<= ))@(\S+)$")
# What asks and changes nothing (RFC 9110, section 9.2.1). All else may be billed.
_SAFE = ("GET", "HEAD", "OPTIONS")
_ABOUT_KEYS = """\
Keys stand in the environment or in a file, never in the arguments, where every
user of the machine sees them. Single quotes make the shell leave them alone:

  --header 'authorization: Bearer $OPENAI_API_KEY'     from the environment
  --header 'x-api-key: @/run/secrets/anthropic'        from a file

In a header's value $NAME and ${NAME} are variables, $$ is a $, and @FILE as its
last word is what the file holds. No output shows them.
"""


class Call(NamedTuple):
    """A call as it is made again and again.

    Attributes:
        url: absolute.
        headers: with what $NAME and @FILE stand for.
        content: the body, or None.
        timeout: seconds for all of it.
        pool_options: what a Pool is to be told.
    """

    method: str
    url: URL
    headers: List[Tuple[str, str]]
    content: Optional[bytes]
    timeout: float
    pool_options: Dict[str, Any]

    @property
    def is_loopback(self) -> bool:
        """Whether it stays on this machine. A name that the resolver would have to tell is not
        taken to."""
        host = self.url.host.rstrip(".")
        if host == "localhost" or host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    @property
    def is_safe(self) -> bool:
        """Whether its method asks and changes nothing."""
        return self.method in _SAFE

    @property
    def shown(self) -> str:
        """Method and URL without credentials."""
        return f"{self.method} {secrets.in_url(self.url)}"

    def arguments(self) -> Dict[str, Any]:
        """Of Client.request() and Client.stream()."""
        each = llmpool.Timeout(self.timeout, total=self.timeout, first_byte=self.timeout)
        return {
            "method": self.method,
            "url": self.url,
            "headers": self.headers,
            "content": self.content,
            "timeout": each,
        }

    def open_pool(self, **options: Any) -> llmpool.Pool:
        """
        Raises:
            ValueError: the CA file cannot be read, a proxy cannot be used.
        """
        return llmpool.Pool(**self.pool_options, **options)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _ABOUT_KEYS + (f"\n{parser.epilog}" if parser.epilog else "")
    add = parser.add_argument
    add("url", metavar="URL", help="http:// or https://")
    add("--method", help="[GET, or POST where there is --data]")
    add(
        "--header",
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="any number of them; of keys see below",
    )
    add(
        "--data",
        metavar="TEXT|@FILE|@-",
        help="the body, or where to read it; of type application/json, if no header says another",
    )
    add("--http", choices=("1", "2", "auto"), default="auto", help="HTTP versions [%(default)s]")
    add("--ca-file", metavar="FILE", help="CA certificates to trust, PEM [the system's]")
    add(
        "--timeout",
        type=above_0,
        default=60.0,
        metavar="SECONDS",
        help="for a whole call [60]",
    )
    add("--json", action="store_true", help="the result for programs, times in milliseconds")


def call_of(given: argparse.Namespace) -> Call:
    """What the arguments say.

    Raises:
        those of REFUSED: what cannot be; the message names it.
    """
    headers = [header_of(text) for text in given.header]
    content = None if given.data is None else _data(given.data)
    if content is not None and "content-type" not in [name.lower() for name, _ in headers]:
        headers.append(("content-type", "application/json"))
    options: Dict[str, Any] = {"http1": given.http != "2", "http2": given.http != "1"}
    if given.ca_file is not None:
        options["ca_file"] = given.ca_file
    return Call(
        (given.method or ("GET" if content is None else "POST")).upper(),
        resolve("", given.url, None),
        headers,
        content,
        given.timeout,
        options,
    )


def header_of(text: str) -> Tuple[str, str]:
    """Name and value of a header as it is given.

    Raises:
        ValueError: it has no colon, names a variable that is not there, or holds a key itself.
        OSError: the file cannot be read.
    """
    name, colon, written = text.partition(":")
    name, written = name.strip(), written.strip()
    if not colon or not name:
        raise ValueError("--header is 'NAME: VALUE'; this one has no name with a colon behind it")
    value = _expanded(name, written)
    if value == written and secrets.is_secret(name):
        raise ValueError(
            f"--header {name}: its value is in the arguments, where every user of this machine "
            f"sees it. Write '{name}: $NAME', in single quotes, for a variable of the environment, "
            f"or '{name}: @FILE'"
        )
    return name, value


def _expanded(name: str, value: str) -> str:
    def replace(match: "re.Match[str]") -> str:
        if match[1]:
            return "$"
        variable = match[2] or match[3]
        if not os.environ.get(variable):
            raise ValueError(f"--header {name}: the environment has no {variable}, or it is empty")
        secrets.hide(os.environ[variable].strip())  # as a server gets it, and says it again
        return os.environ[variable]

    file = _FILE.search(value)
    if file is None:
        return _REFERENCE.sub(replace, value)
    before = _REFERENCE.sub(replace, value[: file.start()])
    with open(file[1], encoding="utf-8") as source:
        content = source.read().strip()
    secrets.hide(content)
    return before + content


def _data(text: str) -> bytes:
    if text == "@-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        with open(text[1:], "rb") as file:
            return file.read()
    return text.encode("utf-8", "surrogateescape")
