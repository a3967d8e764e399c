"""Requests and responses."""

import codecs
import re
from functools import lru_cache
from typing import TYPE_CHECKING, AbstractSet, Any, Dict, List, Optional, Protocol, Union

from . import portable, secrets
from .answer import Answer
from .constants import EVENT_REUSED, HTTP_1_0, HTTP_1_1, HTTP_2
from .decode import decode_body
from .exceptions import HTTPStatusError, RequestError
from .headers import Headers, HeaderTypes
from .json import decode, encode
from .later import later
from .urls import URL

if TYPE_CHECKING:
    from datetime import timedelta

    from .timings import Timings
else:
    timedelta = later("datetime", "timedelta")
    Timings = later("llmpool._http.timings", "Timings")

_VERSIONS = {HTTP_1_1: "HTTP/1.1", HTTP_2: "HTTP/2", HTTP_1_0: "HTTP/1.0"}


class Asked(Protocol):
    """What makes a request once somebody asks for it: a call knows all that is in it."""

    @property
    def request(self) -> "Request": ...


class Request:
    """What was sent.

    Attributes:
        method: in upper case.
        url: absolute.
        content: the body.
    """

    __slots__ = ("method", "url", "content", "_block", "_headers")

    def __init__(
        self,
        method: str,
        url: str,
        headers: Union[HeaderTypes, bytes] = None,
        content: Optional[bytes] = None,
    ) -> None:
        self.method = method
        self.url = url if isinstance(url, URL) else URL(url)
        self.content = content or b""
        # Bytes are lines that were checked.
        self._block = headers if isinstance(headers, bytes) else Headers(headers)._block()
        self._headers: Optional[Headers] = None

    @property
    def headers(self) -> Headers:
        """As handed to the library, which adds host and content-length."""
        if self._headers is None:
            self._headers = Headers._parse(self._block)
        return self._headers

    def __repr__(self) -> str:
        return f"<Request({self.method!r}, {secrets.in_url(self.url)!r})>"

    def _secrets(self) -> AbstractSet[str]:
        """What of it is not shown where a server says it again."""
        return secrets.of_request(self.headers.multi_items(), self.url.query)

    def __reduce__(self) -> Any:
        """Pickled without credentials: those of its headers, and the values of its query."""
        values = portable.state(self, Request.__slots__)
        values["url"] = URL(secrets.in_url(self.url))
        values["_block"] = portable.headers(self._block)
        values["_headers"] = None
        return portable.restore, (Request, values)

    def __copy__(self) -> "Request":
        made: Request = portable.restore(Request, portable.state(self, Request.__slots__))
        return made

    def __deepcopy__(self, memo: Dict[int, Any]) -> "Request":
        return portable.deep_copy(self, Request.__slots__, memo)  # type: ignore[no-any-return]


def _charset(content_type: str) -> Optional[str]:
    for part in content_type.split(";")[1:]:
        name, _, value = part.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip("\"'") or None
    return None


# Codecs of Python's that are no charsets. Some raise whatever the errors argument says.
_NO_CHARSETS = frozenset(
    ("punycode", "idna", "undefined", "unicode_escape", "unicode-escape", "raw_unicode_escape",
     "raw-unicode-escape")
)  # fmt: skip


@lru_cache(maxsize=64)
def text_charset(charset: str) -> Optional[str]:
    """The charset, where text can be decoded with it; else None."""
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,40}", charset):
        return None
    try:
        codec = codecs.lookup(charset)
        b"x".decode(charset, "replace")  # raises for what is no text encoding
    except Exception:  # of a codec that somebody registered, too
        return None
    if codec.name in _NO_CHARSETS or codec.incrementaldecoder is None:
        return None
    return charset


# What the header lines of an answer name.
_CODING, _CHARSET = 1, 2


class Response:
    """The answer to a request, complete.

    The pool makes them. For the tests of an application there are, as in httpx, Response(200),
    Response(200, json={...}), Response(404, text="...", headers={...}).

    Args:
        status_code: as 200.
        headers: as Client.request() takes them.
        content, text, html, json: the body, one of them; the content type is set where the headers
            have none.
        request: what it answers. None: a GET of no URL.

    Attributes:
        request: what was sent, after redirects the last.
        status_code: as 200.
        attempts: how often it was sent; 1 where nothing was retried.
        reused: whether an open connection carried it.
        connection_id: of the connection that carried it, unique in the pool.
        history: the answers that redirected here.
    """

    # _asked is the request, or the call that makes one once somebody asks for it.
    __slots__ = (
        "status_code", "_asked", "_answer", "_limit", "_history", "_headers", "_named", "_content",
        "_encoding",
    )  # fmt: skip

    def __init__(
        self,
        status_code: int,
        *,
        headers: HeaderTypes = None,
        content: Optional[bytes] = None,
        text: Optional[str] = None,
        html: Optional[str] = None,
        json: Any = None,
        request: Optional[Request] = None,
    ) -> None:
        if sum(each is not None for each in (content, text, html, json)) > 1:
            raise TypeError("only one of content, text, html and json can be given")
        if isinstance(status_code, bool) or not isinstance(status_code, int):
            raise TypeError(f"status_code is a number as 200, not {type(status_code).__name__}")
        body, kind = content, ""
        if text is not None:
            body, kind = text.encode("utf-8"), "text/plain; charset=utf-8"
        elif html is not None:
            body, kind = html.encode("utf-8"), "text/html; charset=utf-8"
        elif json is not None:
            body, kind = encode(json), "application/json"
        if isinstance(body, str):
            body = body.encode("utf-8")
        if body is not None and not isinstance(body, bytes):
            raise TypeError(f"content is bytes, not {type(body).__name__}")
        lines = Headers(headers)
        if kind and "content-type" not in lines:
            lines["content-type"] = kind
        if body is not None and "content-length" not in lines:
            lines["content-length"] = str(len(body))
        answer = Answer.of(
            http_status=status_code, attempts=1, data=body or b"", headers=lines._block()
        )
        self._received(request or Request("GET", ""), answer, status_code, 64 << 20)

    def _received(
        self, asked: Union[Request, Asked], answer: Answer, status_code: int, limit: int
    ) -> None:
        """Fills in what came from a server: little, as most of it nobody looks at."""
        self.status_code = status_code
        self._asked = asked
        self._answer = answer
        self._limit = limit
        self._history: Optional[List[Response]] = None
        self._headers: Optional[Headers] = None
        self._named = -1  # not looked for yet
        self._content: Optional[bytes] = None
        self._encoding: Optional[str] = None

    def __reduce__(self) -> Any:
        """Pickled without credentials, those of its request and of its own headers."""
        values = portable.state(self, Response.__slots__)
        values["_asked"] = self.request
        values["_answer"] = self._answer.but(headers=portable.headers(self._answer.headers))
        values["_headers"] = None
        return portable.restore, (Response, values)

    def _portable(self) -> "Response":
        """What of it can leave the process."""
        return self

    def __copy__(self) -> "Response":
        made: Response = portable.restore(Response, portable.state(self, Response.__slots__))
        return made

    def __deepcopy__(self, memo: Dict[int, Any]) -> "Response":
        self._asked = self.request
        return portable.deep_copy(self, Response.__slots__, memo)  # type: ignore[no-any-return]

    @property
    def request(self) -> Request:
        asked = self._asked
        return asked if isinstance(asked, Request) else asked.request

    @request.setter
    def request(self, request: Request) -> None:
        self._asked = request

    @property
    def history(self) -> "List[Response]":
        if self._history is None:
            self._history = []
        return self._history

    @history.setter
    def history(self, history: "List[Response]") -> None:
        self._history = history

    @property
    def attempts(self) -> int:
        return self._answer.attempts

    @property
    def reused(self) -> bool:
        return bool(self._answer.flags & EVENT_REUSED)

    @property
    def connection_id(self) -> int:
        return self._answer.connection_id

    @property
    def url(self) -> URL:
        return self.request.url

    @property
    def headers(self) -> Headers:
        if self._headers is None:
            self._headers = Headers._parse(self._answer.headers)
        return self._headers

    @property
    def request_id(self) -> str:
        """The server's id of the request, which its support asks for: x-request-id, request-id or
        another header of that kind. "": the answer has none."""
        from .explain import request_id

        return request_id(self.headers)

    @property
    def http_version(self) -> str:
        """ "HTTP/2", "HTTP/1.1" or "HTTP/1.0"."""
        return _VERSIONS.get(self._answer.http_version, "HTTP/1.1")

    @property
    def reason_phrase(self) -> str:
        """As the server gave it; HTTP/2 has none, there it is the standard one."""
        if self._answer.reason:
            return self._answer.reason.decode("latin-1")
        from http import HTTPStatus

        try:
            return HTTPStatus(self.status_code).phrase
        except ValueError:
            return ""

    @property
    def peer(self) -> str:
        """The address that answered, as "192.0.2.1:443"."""
        return self._answer.peer.decode("latin-1")

    @property
    def timings(self) -> "Timings":
        from .timings import timings_of

        return timings_of(self._answer.timings)

    @property
    def elapsed(self) -> "timedelta":
        """From submission to the last byte of the answer."""
        from datetime import timedelta

        return timedelta(seconds=self.timings.done or 0.0)

    @property
    def raw_content(self) -> bytes:
        """The body as it was sent, before gzip and deflate are undone."""
        return self._answer.data

    @property
    def content(self) -> bytes:
        """The body, gzip and deflate undone.

        Raises:
            DecodingError: it is not what content-encoding says.
            ResponseTooLarge: decoded it is larger than max_response_bytes.
        """
        if self._content is None:
            answer = self._answer
            coding = self._coding() if self._names(_CODING) else ""
            if not coding:
                self._content = answer.data
                return answer.data
            try:
                self._content = decode_body(coding, answer.data, self._limit)
            except RequestError as error:
                error.request = self.request
                error.request_id = self.request_id
                raise
        return self._content

    def _names(self, what: int) -> int:
        """Whether the header lines, or what lies behind them, have the word, in whatever case: to
        parse them takes longer. rfind() takes half as long as find(), and `in` for bytes first
        makes an exception and drops it."""
        if self._named < 0:
            lines = self._answer.rest.lower()
            self._named = _CODING * (lines.rfind(b"ncoding") >= 0)
            self._named |= _CHARSET * (lines.rfind(b"harset") >= 0)
        return self._named & what

    def _coding(self) -> str:
        return self.headers.get("content-encoding", "")

    @property
    def charset_encoding(self) -> Optional[str]:
        """The charset of the content-type header, or None."""
        return _charset(self.headers.get("content-type", ""))

    @property
    def encoding(self) -> str:
        """What text is decoded with: as assigned, else the charset named, else UTF-8."""
        if self._encoding:
            return self._encoding
        charset = self.charset_encoding
        return (text_charset(charset) if charset else None) or "utf-8"

    @encoding.setter
    def encoding(self, value: str) -> None:
        if value and text_charset(value) is None:
            raise LookupError(f"{value!r} is no text encoding that Python knows")
        self._encoding = value

    @property
    def text(self) -> str:
        """The body as text; bytes that do not fit the charset become U+FFFD.

        Raises: as content, and nothing of its own.
        """
        content = self.content
        try:
            return content.decode(self.encoding, "replace")
        except Exception:  # a codec that somebody registered
            return content.decode("utf-8", "replace")

    def json(self, **kwargs: Any) -> Any:
        """The body parsed as JSON (see use_json()); keyword arguments go to json.loads().

        It is UTF-8, UTF-16 or UTF-32, or what the content type's charset says.

        Raises:
            ValueError: the body is not JSON (json.JSONDecodeError); the message has the status, the
                content type and the beginning of the body.
        """
        content = self._content or self.content
        try:
            return decode(self._json_source(content), **kwargs)
        except ValueError as error:
            from .explain import not_json

            raise not_json(self, content, error) from None

    def _json_source(self, content: bytes) -> Union[bytes, str]:
        """The body as text, where the headers name a charset that JSON is not guessed to have."""
        if not self._names(_CHARSET):
            return content
        charset = self.charset_encoding
        if charset is None or charset.lower().startswith("utf"):
            return content
        if content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return content
        known = text_charset(charset)
        try:
            return content.decode(known) if known else content
        except ValueError:
            return content

    @property
    def is_informational(self) -> bool:
        return 100 <= self.status_code <= 199

    @property
    def is_success(self) -> bool:
        return 200 <= self.status_code <= 299

    @property
    def is_redirect(self) -> bool:
        return 300 <= self.status_code <= 399

    @property
    def is_client_error(self) -> bool:
        return 400 <= self.status_code <= 499

    @property
    def is_server_error(self) -> bool:
        return 500 <= self.status_code <= 599

    @property
    def is_error(self) -> bool:
        return 400 <= self.status_code <= 599

    @property
    def has_redirect_location(self) -> bool:
        return self.status_code in (301, 302, 303, 307, 308) and "location" in self.headers

    def raise_for_status(self) -> "Response":
        """This response, where its status is 2xx.

        Raises:
            HTTPStatusError: it is not; .response is this. The message has what the server said and
                its id of the request.
        """
        if self.is_success:
            return self
        from .explain import status_message

        message = status_message(self, self._beginning())
        raise HTTPStatusError(message, request=self.request, response=self)

    def _beginning(self) -> bytes:
        """Of the body what is there, decoded."""
        try:
            return self.content
        except RequestError:
            return b""

    def __repr__(self) -> str:
        return f"<Response [{self.status_code} {self.reason_phrase}]>"
