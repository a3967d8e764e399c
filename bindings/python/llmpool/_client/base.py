"""What both clients share: their settings, and requests made ready to submit."""

from typing import Any, Dict, Iterable, List, Mapping, NoReturn, Optional, Tuple

from .._http import secrets
from .._http.answer import HTTP_STATUS, STATUS
from .._http.config import (
    AS_POOL,
    UNSET,
    BudgetTypes,
    MaybeBudget,
    Retry,
    RetryTypes,
    Timeout,
    TimeoutTypes,
    Unset,
    as_retry,
    as_timeout,
    count,
)
from .._http.content import Content, FilesTypes, encode_body
from .._http.decode import accept_encoding
from .._http.exceptions import (
    InvalidURL,
    LocalProtocolError,
    StreamConsumed,
    TooManyRedirects,
    UnsupportedProtocol,
)
from .._http.headers import Headers, HeaderTypes, merge
from .._http.json import encode
from .._http.models import Response
from .._http.urls import URL, ParamTypes, merge_params, params_list, parse_base, redirected, resolve
from .._native.abi import REQUEST_UPLOAD
from .._native.call import EXPECT_CONTENT, NO_OPTIONS, NO_SPENDING, Call, check_range, failure
from .._native.failures import bad_redirect
from .._native.text import c_string
from .._native.text import server_name as checked_name
from .._pool import monitor
from .._pool.pool import Pool, shared
from .._version import __version__
from .refusals import not_entered, refuse_arguments, refuse_client_argument

MAX_REDIRECTS = 20
DEFAULT_MAX_RESPONSE_BYTES = 64 << 20

_BODY_HEADERS = ("content-type", "content-length", "content-encoding", "transfer-encoding")
_METHODS = {
    method: method.encode()
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
}
_CACHED = 128
_new_response = Response.__new__


def _default_headers() -> Headers:
    return Headers(
        {
            "accept": "*/*",
            "accept-encoding": accept_encoding(),
            "user-agent": f"python-llmpool/{__version__}",
        }
    )


class BaseClient:
    """The settings of a client, as Client and AsyncClient document them."""

    def __init__(
        self,
        *,
        base_url: str = "",
        headers: HeaderTypes = None,
        params: ParamTypes = None,
        timeout: TimeoutTypes = UNSET,
        pool: Optional[Pool] = None,
        follow_redirects: bool = False,
        max_response_bytes: int = DEFAULT_MAX_RESPONSE_BYTES,
        retry: RetryTypes = None,
        server_name: Optional[str] = None,
        budget: BudgetTypes = None,
        **unsupported: NoReturn,
    ) -> None:
        if unsupported:
            refuse_client_argument(type(self).__name__, next(iter(unsupported)))
        if pool is not None and not isinstance(pool, Pool):
            raise TypeError(f"pool is a llmpool.Pool, not {type(pool).__name__}")
        self.pool = shared() if pool is None else pool
        monitor.watch(self.pool)
        self.follow_redirects = follow_redirects
        self.max_response_bytes = count("max_response_bytes", max_response_bytes, 1 << 62)
        self._base = parse_base(base_url)
        self._params = params_list(params)
        self._timeout = as_timeout(timeout)
        self._retry = as_retry(retry)
        self._server_name = checked_name(server_name)
        self.budget = budget
        self._closed = False
        self._urls: Dict[str, bytes] = {}
        self.headers = merge(_default_headers(), Headers(headers))
        self._block(None, "")  # a header that cannot be sent is refused here, not at first use

    # ---- settings

    @property
    def base_url(self) -> URL:
        """Ending in a slash; "" where there is none."""
        return URL(self._base)

    @property
    def headers(self) -> Headers:
        """Sent with every request; may be changed."""
        return self._headers

    @headers.setter
    def headers(self, headers: HeaderTypes) -> None:
        self._headers = headers if isinstance(headers, Headers) else Headers(headers)
        # Blocks ready to send, behind the state of the headers that they were made from: one
        # attribute, so that no thread sees blocks of another state.
        self._blocks: Tuple[int, Dict[Any, bytes]] = (self._headers._version, {})

    @property
    def timeout(self) -> Timeout:
        return self._timeout

    @timeout.setter
    def timeout(self, timeout: TimeoutTypes) -> None:
        self._timeout = as_timeout(timeout)

    @property
    def retry(self) -> Retry:
        """When requests may be sent again: see Retry; may be set to whatever retry= takes."""
        return self._retry

    @retry.setter
    def retry(self, retry: RetryTypes) -> None:
        self._retry = as_retry(retry)

    @property
    def is_closed(self) -> bool:
        return self._closed

    def __getstate__(self) -> Dict[str, Any]:
        """A pickled client keeps its headers, keys too: without them it would be of no use."""
        made_again = ("_urls", "_blocks")
        return {name: value for name, value in vars(self).items() if name not in made_again}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        vars(self).update(state)
        self._urls = {}
        self.headers = self._headers
        monitor.watch(self.pool)

    def __repr__(self) -> str:
        return f"<llmpool.{type(self).__name__} base_url={self._base!r} on {self.pool!r}>"

    # ---- inside

    def _resolve(self, url: str, params: ParamTypes) -> bytes:
        if params is not None or self._params:
            return resolve(self._base, url, merge_params(self._params, params)).encode("ascii")
        raw = resolve(self._base, url, None).encode("ascii")
        if len(self._urls) >= _CACHED:
            self._urls.clear()
        self._urls[url] = raw
        return raw

    def _block(self, headers: HeaderTypes, content_type: str) -> bytes:
        """The header lines of a request; made and checked once for each set of headers."""
        version = self._headers._version
        known, blocks = self._blocks
        if known != version:
            blocks = {}
            self._blocks = (version, blocks)
        key: Any = content_type
        if headers:
            if isinstance(headers, Mapping) and not isinstance(headers, Headers):
                key = (content_type, *headers.items())
            else:
                headers = Headers(headers)  # it may be an iterator
                key = (content_type, *headers._items)
        try:
            block = blocks.get(key)
        except TypeError:  # a value that is not hashable is no str or bytes: refused below
            block = None
        if block is None:
            merged = merge(self._headers, Headers(headers) if headers else None)
            if content_type and "content-type" not in merged:
                merged["content-type"] = content_type
            block = merged._block()
            if len(blocks) >= _CACHED:
                blocks.clear()
            blocks[key] = block
        return block

    def _prepare(
        self,
        method: str,
        url: str,
        content: Optional[Content],
        data: Optional[Mapping[str, Any]],
        files: Optional[FilesTypes],
        json: Any,
        params: ParamTypes,
        headers: HeaderTypes,
        timeout: TimeoutTypes,
        priority: int,
        retry: RetryTypes = None,
        server_name: Optional[str] = None,
        budget: MaybeBudget = UNSET,
    ) -> Call:
        """The request, checked and ready to submit."""
        if self._closed:
            raise RuntimeError("the client is closed")
        pool = self.pool
        if pool._watched is not monitor.watching:  # this process was forked
            monitor.watch(pool)
        upload = length = None
        # What nearly every body is, without a look at what else it could be.
        if json is not None and content is None and data is None and files is None:
            body: Optional[bytes] = encode(json)
            content_type = "application/json"
        else:
            given = self._content_type(headers) if files else ""
            body, upload, content_type, length = encode_body(content, data, json, files, given)
        raw_url = self._urls.get(url) if params is None and not self._params else None
        if raw_url is None:
            raw_url = self._resolve(url, params)
        if files or upload is not None:
            block = self._upload_block(headers, content_type, length)
        else:
            block = self._block(headers, content_type)
        raw_method = _raw_method(method)
        if body is None and upload is None:
            body = _no_body(raw_method)
        chosen = self._timeout if isinstance(timeout, Unset) else as_timeout(timeout)
        again = self._retry if retry is None else as_retry(retry)
        name = self._server_name if server_name is None else checked_name(server_name)
        options = NO_OPTIONS
        if priority or priority.__class__ is not int or name is not None or again is not AS_POOL:
            check_range("priority", priority)
            fields = again._fields if upload is None else again._unhedged
            options = (priority, *fields, name, *NO_SPENDING)
        call = Call(
            pool._handle, raw_method, raw_url, block, body, chosen._fields, options,
            self.max_response_bytes, again._flags,
        )  # fmt: skip
        if upload is not None:
            call.upload = upload
            call.flags |= REQUEST_UPLOAD
        chosen_budget = self.budget if isinstance(budget, Unset) else budget
        if chosen_budget is not None:
            from .._pool.budgets import spend

            spend(call, chosen_budget)
        return call

    def _content_type(self, headers: HeaderTypes) -> str:
        """What the headers of a request and of the client say of it; "": nothing."""
        given = next(iter(Headers(headers).get_list("content-type")), "")
        return given or self._headers.get("content-type", "")

    def _upload_block(
        self, headers: HeaderTypes, content_type: str, length: Optional[int]
    ) -> bytes:
        """Not cached: a boundary and a length are of one request."""
        merged = merge(self._headers, Headers(headers) if headers else None)
        # A multipart body's is made from what the headers say, and has the boundary.
        if content_type.startswith("multipart/") or (content_type and "content-type" not in merged):
            merged["content-type"] = content_type
        if length is not None and "content-length" not in merged:
            merged["content-length"] = str(length)
        return merged._block()

    def _redirected(self, response: Response, call: Call, history: List[Response]) -> Call:
        """The request that follows a redirect, which goes into the history."""
        if len(history) == MAX_REDIRECTS:
            raise TooManyRedirects(
                f"more than {MAX_REDIRECTS} redirects",
                request=response.request,
                request_id=response.request_id,
            )
        history.append(response)
        before = response.request
        try:
            url = redirected(before.url, response.headers["location"])
        except (InvalidURL, UnsupportedProtocol) as error:
            if isinstance(error, InvalidURL):
                raise bad_redirect(error, before) from None
            error.request = before
            raise
        headers = before.headers.copy()
        method, body = before.method, before.content or None
        # As browsers do it and httpx does it: RFC 9110 15.4 allows it for POST.
        code = response.status_code
        if (code in (302, 303) and method != "HEAD") or (code == 301 and method == "POST"):
            method = "GET"
        if method != before.method:
            body = None
            _drop(headers, _BODY_HEADERS)
        elif call.upload is not None:
            raise StreamConsumed("a body that was sent piece by piece cannot follow a redirect")
        options = call.options
        if url.origin != before.url.origin:
            _drop(headers, _not_for(url, before.url, headers))
            options = (*options[:4], None, *options[5:])  # a server_name was meant for the first
        raw_method = _raw_method(method)
        if body is None:
            body = _no_body(raw_method)
        following = Call(
            call.pool, raw_method, url.encode("ascii"), headers._block(), body, call.timeout,
            options, call.limit, call.flags & ~REQUEST_UPLOAD,
        )  # fmt: skip
        following.redirected_by = before
        following.trace = call.trace
        call.release()
        if call.options[5] is not None:
            from .._http.budgets import Meter

            following.meter = Meter()
        return following


def _raw_method(method: str) -> bytes:
    if not isinstance(method, str):
        raise TypeError(f"method is a str, not {type(method).__name__}")
    known = _METHODS.get(method)
    if known is not None:
        return known
    try:
        return c_string("method", method.upper())
    except ValueError as error:
        raise LocalProtocolError(str(error)) from None


def _no_body(raw_method: bytes) -> Optional[bytes]:
    """Of no bytes, where such a request announces one."""
    return b"" if raw_method in EXPECT_CONTENT else None


def make_response(call: Call) -> Response:
    """The response of a request whose DONE came; raises what it ended with."""
    answer = call.done
    assert answer is not None
    if answer.fields[STATUS]:
        raise failure(answer, call.request)
    response = _new_response(Response)
    response._received(call, answer, answer.fields[HTTP_STATUS], call.limit)
    return response


def _not_for(url: URL, before: URL, headers: Headers) -> Iterable[str]:
    """The headers that do not follow a redirect to another origin.

    From http to https of one host, on the default ports, credentials do: a server that takes plain
    text sends its clients on like that, and httpx and requests keep them too. Those of a proxy are
    nobody else's.
    """
    secure = (before.scheme, url.scheme) == ("http", "https") and before.host == url.host
    if secure and before.port is None and url.port is None:
        return ("proxy-authorization",)
    return ("host", *filter(secrets.is_secret, headers))


def _drop(headers: Headers, names: Iterable[str]) -> None:
    for name in tuple(names):
        if name in headers:
            del headers[name]


__all__ = ["BaseClient", "make_response", "not_entered", "refuse_arguments"]
