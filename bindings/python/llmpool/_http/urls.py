"""URLs: joined, escaped and given their query as httpx does it."""

import re
from typing import Any, Iterable, List, Mapping, Optional, Sequence, Tuple, Union
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urljoin, urlsplit

from .exceptions import InvalidURL, UnsupportedProtocol

Primitive = Union[str, int, float, bool, None]
ParamTypes = Union[
    Mapping[str, Union[Primitive, Sequence[Primitive]]],
    Iterable[Tuple[str, Primitive]],
    str,
    None,
]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_CONTROL = re.compile("[\x00-\x1f\x7f]").search
_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")
# What may stand in a path and a query as it is; the rest is percent-encoded.
_PATH_SAFE = "!$&'()*+,;=:@/[]|^~"
_QUERY_SAFE = "!$&()*+,;=:@/?[]|^~`{}\\'"


class URL(str):
    """An absolute URL: a str that knows its parts."""

    __slots__ = ()

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


def primitive(value: Primitive) -> str:
    if value is True:
        return "true"
    if value is False:
        return "false"
    return "" if value is None else str(value)


def params_list(params: ParamTypes) -> List[Tuple[str, str]]:
    """Each name and value, a list of values spread out."""
    if params is None:
        return []
    if isinstance(params, str):
        return parse_qsl(params, keep_blank_values=True)
    pairs: Iterable[Tuple[str, Any]] = params.items() if isinstance(params, Mapping) else params
    result: List[Tuple[str, str]] = []
    for name, value in pairs:
        values = value if isinstance(value, (list, tuple)) else (value,)
        result.extend((str(name), primitive(each)) for each in values)
    return result


def merge_params(
    first: List[Tuple[str, str]], second: ParamTypes
) -> Optional[List[Tuple[str, str]]]:
    """The client's parameters with the request's over them; None: leave the URL's query alone."""
    if not first and second is None:
        return None
    over = params_list(second)
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
    host, separator, port = netloc.rpartition(":")
    if not separator:
        host, port = netloc, ""
    try:
        return host.encode("idna").decode("ascii") + separator + port
    except UnicodeError as error:
        raise InvalidURL(f"the host name {host!r} is not allowed: {error}") from None


def _checked(url: str) -> SplitResult:
    if not isinstance(url, str):
        raise TypeError(f"a URL is a str, not {type(url).__name__}")
    found = _CONTROL(url)
    if found:  # urlsplit would silently drop some of them
        raise InvalidURL(
            f"the URL has the control character {found.group()!r} at position {found.start()}"
        )
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises for what is not a number
    except ValueError as error:
        raise InvalidURL(f"the URL cannot be parsed: {error}") from None
    return parts


def _absolute(parts: SplitResult) -> str:
    if parts.scheme not in _DEFAULT_PORTS:
        if not parts.scheme:
            raise UnsupportedProtocol(
                "the URL has no 'http://' or 'https://', and the client no base_url"
            )
        raise UnsupportedProtocol(f"the URL's scheme is {parts.scheme!r}, not http or https")
    if not parts.hostname:
        raise InvalidURL("the URL names no host")
    if "@" in parts.netloc:
        raise InvalidURL(
            "the URL has a user name or password; send them as a header (they would end up in logs)"
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
    url = _absolute(parts)
    return url if url.endswith("/") else url + "/"


def resolve(base: str, url: str, params: Optional[List[Tuple[str, str]]]) -> URL:
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
