"""The blocking client."""

from types import TracebackType
from typing import TYPE_CHECKING, Any, List, Mapping, NoReturn, Optional, Type

from .._http.config import UNSET, MaybeBudget, RetryTypes, TimeoutTypes
from .._http.content import Content, FilesTypes
from .._http.headers import HeaderTypes
from .._http.models import Response
from .._http.urls import ParamTypes
from .._native import lane
from .._native.call import Call
from .._pool import leaks
from .base import make_response, not_entered, refuse_arguments
from .stream import StreamResponse
from .verbs import Verbs


class Client(Verbs):
    """Makes requests, with headers, a base URL and a timeout of its own, on a pool.

    A client is cheap and has no connections: they are the pool's. Client() uses the pool that
    everything else in the process uses, C code too; llmpool.configure() sets its limits. Any
    number of threads may use one client at once. Cookies are neither stored nor sent.

        client = llmpool.Client(
            base_url="https://api.openai.com/v1",
            headers={"authorization": f"Bearer {key}"},
            timeout=llmpool.Timeout(first_byte=600, read=60),
        )
        answer = client.post("/chat/completions", json={...}).raise_for_status().json()

    A client on the shared pool can be pickled, and is on the shared pool of the process that loads
    it; it keeps its headers, keys too. Errors and responses are pickled without credentials.

    Args:
        base_url: what relative URLs are appended to, also those that begin with a slash.
        headers: sent with every request.
        params: query parameters sent with every request.
        timeout: seconds or a Timeout; what it does not say is as the pool has it.
        pool: a Pool of one's own instead of the shared one. It is not closed with the client.
        follow_redirects: False gives redirects as answers.
        retry: when requests may be sent again, as request() has it; None: where the server
            provably has not acted on them, as often as the pool allows.
        server_name: for TLS, where it is not the URL's host. Not for where a redirect leads.
        budget: what requests share of a provider's limits: a Budget, a Spending, the name of a
            budget, a function as auto_budget that chooses one, or None. What a request took is read
            from the usage of its answer.
        max_response_bytes: [64 MiB] the largest body of an answer, before decoding and after; not
            of one that is streamed.

    Raises:
        InvalidURL, UnsupportedProtocol: the base_url cannot be used.
        LocalProtocolError: a header cannot be sent; the message names it.
        TypeError: for limits, verify, proxy and the like, which a pool has, not a client.
    """

    def request(
        self,
        method: str,
        url: str,
        *,
        content: Optional[Content] = None,
        data: Optional[Mapping[str, Any]] = None,
        files: Optional[FilesTypes] = None,
        json: Any = None,
        params: ParamTypes = None,
        headers: HeaderTypes = None,
        timeout: TimeoutTypes = UNSET,
        follow_redirects: Optional[bool] = None,
        priority: int = 0,
        retry: RetryTypes = None,
        server_name: Optional[str] = None,
        budget: MaybeBudget = UNSET,
        **unsupported: NoReturn,
    ) -> Response:
        """Sends a request and waits for its complete answer.

        Args:
            method: as "POST".
            url: absolute, or relative to base_url.
            content: the body: str or bytes; a file or an iterator of bytes is sent piece by piece
                in bounded memory, as fast as the server takes it, and is never sent twice.
            data: form fields, sent url-encoded, with files as multipart.
            files: files to send as multipart/form-data, each a str, bytes or a file opened in
                binary mode, or a tuple (name, file[, content type[, headers]]).
            json: a value to send as JSON.
            params: query parameters, over those of the client.
            headers: over those of the client.
            timeout: seconds or a Timeout instead of the client's; None: no timeout.
            follow_redirects: instead of the client's.
            priority: [0] higher goes first among those that wait for a connection.
            retry: when it may be sent again: "status", after 408, 409, 429 and 5xx too; "sent",
                even where the server may have begun to act; False, never; a Retry with bounds of
                its own; None: as the client has it.
            server_name: for TLS, where it is not the URL's host; "": the URL's host. None: as the
                client has it.
            budget: instead of the client's; None: none.

        Raises:
            TimeoutException: and its subclasses, which say what took too long.
            TransportError: and its subclasses: no answer. .unseen says that the server did
                nothing.
            InvalidURL, UnsupportedProtocol, LocalProtocolError: nothing was sent.
            TooManyRedirects: after 20.
            RuntimeError: the client is closed.

        An answer of 4xx or 5xx is returned; see Response.raise_for_status().
        """
        if unsupported:
            refuse_arguments(unsupported)
        call = self._prepare(
            method, url, content, data, files, json, params, headers, timeout, priority,
            retry, server_name, budget,
        )  # fmt: skip
        lane.run(call)
        response = make_response(call)
        follow = self.follow_redirects if follow_redirects is None else follow_redirects
        if follow and 300 <= response.status_code < 400:
            history: List[Response] = []
            while response.has_redirect_location:
                call = self._redirected(response, call, history)
                lane.run(call)
                response = make_response(call)
            response.history = history
        call.release()
        return response

    def stream(
        self,
        method: str,
        url: str,
        *,
        content: Optional[Content] = None,
        data: Optional[Mapping[str, Any]] = None,
        files: Optional[FilesTypes] = None,
        json: Any = None,
        params: ParamTypes = None,
        headers: HeaderTypes = None,
        timeout: TimeoutTypes = UNSET,
        follow_redirects: Optional[bool] = None,
        priority: int = 0,
        retry: RetryTypes = None,
        server_name: Optional[str] = None,
        budget: MaybeBudget = UNSET,
        sse: bool = True,
        **unsupported: NoReturn,
    ) -> "Stream":
        """Sends a request when its with block begins, and gives the answer as it comes.

            with client.stream("POST", "/chat/completions", json={..., "stream": True}) as r:
                r.raise_for_status()
                for event in r.iter_sse(stop="[DONE]"):
                    print(event.json()["choices"][0]["delta"].get("content", ""), end="")

        The block begins as soon as status and headers are there. Leaving it early cancels the
        request: the server sees it at once. The arguments are those of request(), and

        Args:
            sse: True lets the library parse an event stream, which is much faster. iter_bytes(),
                iter_text(), iter_lines() and read() then give the same events written anew: with
                LF, without comments. False gives the server's own bytes; iter_sse() works too.

        Raises, at the with: as request().
        """
        if unsupported:
            refuse_arguments(unsupported)
        call = self._prepare(
            method, url, content, data, files, json, params, headers, timeout, priority,
            retry, server_name, budget,
        )  # fmt: skip
        follow = self.follow_redirects if follow_redirects is None else follow_redirects
        return Stream(self, call, sse, follow)

    def _open(self, call: Call, sse: bool, follow: bool, place: str) -> StreamResponse:
        response = StreamResponse(call, lane.start(call, sse), place=place)
        history: List[Response] = []
        while follow and response.has_redirect_location:
            try:
                response.read()
            finally:
                response.close()
            call = self._redirected(response, call, history)
            response = StreamResponse(call, lane.start(call, sse), place=place)
        response.history = history
        return response

    def close(self) -> None:
        """Takes no more requests. The pool stays open, also one of one's own."""
        self._closed = True

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]] = None,
        value: Optional[BaseException] = None,
        traceback: Optional[TracebackType] = None,
    ) -> None:
        self.close()


class Stream:
    """A request that is sent when its with block begins: see Client.stream()."""

    __slots__ = ("_client", "_call", "_sse", "_follow", "_place", "_response")

    def __init__(self, client: Client, call: Call, sse: bool, follow: bool) -> None:
        self._client = client
        self._call = call
        self._sse = sse
        self._follow = follow
        self._place = leaks.place()
        self._response: Optional[StreamResponse] = None

    def __enter__(self) -> StreamResponse:
        if self._response is not None:
            raise RuntimeError("a stream is entered once")
        self._call = self._call.fresh()  # the first time may have ended before there was a response
        self._response = self._client._open(self._call, self._sse, self._follow, self._place)
        return self._response

    def __exit__(
        self,
        kind: Optional[Type[BaseException]] = None,
        value: Optional[BaseException] = None,
        traceback: Optional[TracebackType] = None,
    ) -> None:
        if self._response is not None:
            self._response.close()

    if not TYPE_CHECKING:  # a checker would believe that everything is there

        def __getattr__(self, name: str) -> NoReturn:
            not_entered("with", name)


__all__ = ["Client", "Stream"]
