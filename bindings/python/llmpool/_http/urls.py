"""URLs: joined, escaped and given their query as httpx does it."""

import re
from enum import Enum
from typing import Any, Iterable, List, Mapping, Optional, Sequence, Tuple, Union
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urljoin, urlsplit

from . import secrets
from .exceptions import InvalidURL, UnsupportedProtocol

Primitive = Union[str, bytes, int, float, bool, None]
ParamTypes = Union[
    Mapping[str, Union[Primitive, Sequence[Primitive]]],
    Iterable[Tuple[str, Primitive]],
    str,
    None,
]
Pair = Tuple[Union[str, bytes], Union[str, bytes]]

UNIX_ADVICE = (
    "Unix sockets are not supported: have the server listen on 127.0.0.1, or put a relay before "
    "it, as 'socat TCP-LISTEN:8000,bind=127.0.0.1,fork UNIX-CONNECT:/the/socket'"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_OTHER_SCHEMES = ("ftp", "ftps", "file", "ws", "wss", "data", "mailto", "about", "javascript")
_CONTROL = re.compile("[\x00-\x1f\x7f]").search
_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")
# What may stand in a path and a query as it is; the rest is percent-encoded.
_PATH_SAFE = "!$&'()*+,;=:@/[]|^~"
_QUERY_SAFE = "!$&()*+,;=:@/?[]|^~`{}\\'"


class URL(str):
    """An absolute URL: a str that knows its parts. repr() does not show secrets."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"URL({secrets.in_url(self)!r})"

    @property
    def _split(self) -> SplitResult:
        return urlsplit(self)

    @property
    def scheme(self) -> str:
        return self._split.scheme

    @property
    def host(self) -> str:
        """Without the brackets of an IPv6 address, in lower case."""
        return self._split.hostname or ""

    @property
    def port(self) -> Optional[int]:
        """None where it is the scheme's own."""
        port = self._split.port
        return None if port == _DEFAULT_PORTS.get(self.scheme) else port

    @property
    def path(self) -> str:
        return self._split.path

    @property
    def query(self) -> str:
        return self._split.query

    @property
    def fragment(self) -> str:
        return self._split.fragment

    @property
    def origin(self) -> str:
        """ "scheme://host:port", the port always there: as llmpool.stats(origin) takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self._split.port or _DEFAULT_PORTS.get(self.scheme, 0)}"


def primitive(value: Any) -> Union[str, bytes]:
    """A value as a form and a query have it: bytes as they are, members of enums by their value."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bytes):
        return value
    if value is True:
        return "true"
    if value is False:
        return "false"
    return "" if value is None else well_formed(str(value))


def well_formed(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair, as browsers send it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def params_list(params: ParamTypes) -> List[Pair]:
    """Each name and value, a list of values spread out."""
    if params is None:
        return []
    if isinstance(params, (str, bytes)):
        text = params.decode("utf-8", "replace") if isinstance(params, bytes) else params
        return list(parse_qsl(text, keep_blank_values=True))
    pairs: Iterable[Tuple[Any, Any]] = params.items() if isinstance(params, Mapping) else params
    result: List[Pair] = []
    for name, value in pairs:
        values = value if isinstance(value, (list, tuple)) else (value,)
        result.extend((primitive(name), primitive(each)) for each in values)
    return result


def merge_params(first: List[Pair], second: ParamTypes) -> Optional[List[Pair]]:
    """The client's parameters with the request's over them; None: leave the URL's query alone."""
    over = params_list(second)
    if not first and not over:
        return None
    names = {name for name, _ in over}
    return [pair for pair in first if pair[0] not in names] + over


def _escape(text: str, safe: str) -> str:
    """Percent-encodes what may not stand in a URL and leaves existing escapes alone."""
    parts = []
    position = 0
    for match in _ESCAPE.finditer(text):
        parts.append(quote(text[position : match.start()], safe=safe))
        parts.append(match.group())
        position = match.end()
    parts.append(quote(text[position:], safe=safe))
    return "".join(parts)


def _ascii_host(netloc: str) -> str:
    if netloc.isascii():
        return netloc
    from .idna import to_ascii

    host, separator, port = netloc.rpartition(":")
    if not separator:
        host, port = netloc, ""
    return to_ascii(host) + separator + port


def _checked(url: str) -> SplitResult:
    if not isinstance(url, str):
        raise TypeError(f"a URL is a str, not {type(url).__name__}")
    if isinstance(url, Enum):
        url = url.value
    found = _CONTROL(url)
    if found:  # urlsplit would silently drop some of them
        raise InvalidURL(
            f"the URL has the control character {found.group()!r} at position {found.start()}"
        )
    try:
        parts = urlsplit(url)
    except ValueError as error:  # which may quote what stands before the host
        reason = "its host" if "netloc" in str(error) else str(error)
        raise InvalidURL(f"the URL cannot be parsed: {reason}") from None
    try:
        parts.port  # noqa: B018  raises for what is not a number
        url.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidURL(f"the URL has half a surrogate pair at position {error.start}") from None
    except ValueError:
        raise InvalidURL("the URL's port is not a number from 0 to 65535") from None
    return parts


def _scheme_error(parts: SplitResult, what: str) -> UnsupportedProtocol:
    if not parts.scheme and what == "base_url":
        shown = secrets.in_url(parts.geturl())
        if not parts.netloc and shown.startswith("/"):
            return UnsupportedProtocol(
                f"base_url {shown!r} is a path: it begins with 'https://' and a host"
            )
        return UnsupportedProtocol(
            f"base_url {shown!r} has no scheme: write 'https://{shown.lstrip('/')}', or http:// "
            "where the server has no TLS"
        )
    if not parts.scheme:
        return UnsupportedProtocol(
            f"the URL {secrets.in_url(parts.geturl())!r} has no 'http://' or 'https://', and the "
            "client no base_url"
        )
    if "unix" in parts.scheme:
        return UnsupportedProtocol(UNIX_ADVICE)
    if parts.scheme in _OTHER_SCHEMES:
        return UnsupportedProtocol(f"the URL's scheme is {parts.scheme!r}, not http or https")
    if "@" in parts.path:  # "user:password@host"
        return UnsupportedProtocol(f"the {what}'s scheme is neither http nor https")
    # "localhost:8000" is parsed as a scheme and a path.
    shown = secrets.in_url(parts.geturl())
    return UnsupportedProtocol(
        f"the {what}'s scheme is {parts.scheme!r}, not http or https; if that is the host, write "
        f"'https://{shown}', or http:// where the server has no TLS"
    )


def _absolute(parts: SplitResult, what: str = "URL") -> str:
    if parts.scheme not in _DEFAULT_PORTS:
        raise _scheme_error(parts, what)
    if not parts.hostname:
        raise InvalidURL("the URL names no host")
    if "@" in parts.netloc:
        raise InvalidURL(
            "the URL has a user name or password; send them as a header (they would end up in logs)"
        )
    if "%" in parts.netloc and ":" in parts.hostname:
        raise InvalidURL(
            "IPv6 zones, as in fe80::1%eth0, are not supported: use an address of the server that "
            "needs none, a global or a unique local one (fd00::/8)"
        )
    path = _escape(parts.path, _PATH_SAFE) or "/"
    query = f"?{_escape(parts.query, _QUERY_SAFE)}" if parts.query else ""
    return f"{parts.scheme}://{_ascii_host(parts.netloc)}{path}{query}"


def parse_base(base_url: str) -> str:
    """The base as every path is appended to it: absolute, ending in a slash; "" for none."""
    if not base_url:
        return ""
    parts = _checked(base_url)
    if parts.query or parts.fragment:
        raise InvalidURL("a base_url has no query and no fragment: use params=")
    url = _absolute(parts, "base_url")
    return url if url.endswith("/") else url + "/"


def resolve(base: str, url: str, params: Optional[List[Pair]]) -> URL:
    """The absolute URL of a request.

    A relative URL is appended to the base's path, also where it begins with a slash. Parameters,
    where there are any, replace the URL's own query. Both as httpx does it.
    """
    parts = _checked(url)
    if base and not parts.scheme and not parts.netloc:
        path = _escape(parts.path.lstrip("/"), _PATH_SAFE)
        query = f"?{_escape(parts.query, _QUERY_SAFE)}" if parts.query else ""
        absolute = base + path + query
    else:
        absolute = _absolute(parts)
    if params is not None:
        query = urlencode(params)
        absolute = absolute.partition("?")[0] + (f"?{query}" if query else "")
    return URL(absolute)


def redirected(url: URL, location: str) -> URL:
    """Where a Location header leads."""
    _checked(location)
    try:
        return URL(_absolute(_checked(urljoin(url, location))))
    except UnsupportedProtocol as error:
        raise UnsupportedProtocol(f"redirected to where {error}") from None
