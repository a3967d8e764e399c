"""Answers and errors of llmpool as urllib3 has them, for libraries that are made on urllib3."""

import errno
import io
import os
import socket
import ssl
from http.client import BadStatusLine, IncompleteRead, RemoteDisconnected, responses
from typing import Callable, Dict, Generator, Optional, Protocol, Type

import urllib3
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection

import llmpool
from llmpool import transport

# As http.client numbers them.
_VERSIONS = {b"HTTP/1.0": 10, b"HTTP/1.1": 11, b"HTTP/2": 20}
_RESET = os.strerror(errno.ECONNRESET)
# What programs look for in the text.
_UNVERIFIED = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"


class Call(Protocol):
    """A request on its way."""

    def origin(self) -> "Origin": ...


class Body:
    """The file below a response: the bytes of an answer as they come.

    Args:
        call: lives as long, with what it holds.

    Attributes:
        length: that the answer announced, or None.
        given: how much of it was read.
        left: whether it was closed before its end.
    """

    __slots__ = ("_raw", "_call", "_pieces", "_rest", "_at", "given", "_closed", "length", "left")

    def __init__(self, raw: transport.RawResponse, call: Call) -> None:
        self._raw = raw
        self._call = call
        self._pieces = iter(raw)
        self._rest = b""  # a piece, of which what comes before _at was given
        self._at = 0
        self.given = 0
        self._closed = False
        self.length: Optional[int] = None
        self.left = False

    def read1(self, amount: Optional[int] = None) -> bytes:
        """What has come, at most so much; waits for the first of it."""
        rest, at = self._rest, self._at
        if not rest:
            rest = self._next()
        if amount is None or amount < 0 or len(rest) - at <= amount:
            piece = rest[at:] if at else rest
            self._rest, self._at = b"", 0
        else:
            piece = rest[at : at + amount]
            self._rest, self._at = rest, at + amount
        self.given += len(piece)
        return piece

    def read(self, amount: Optional[int] = None) -> bytes:
        """So much, or what there is until the end."""
        if amount is None or amount < 0:
            return b"".join(iter(self.read1, b""))
        pieces = []
        while amount:
            piece = self.read1(amount)
            if not piece:
                break
            pieces.append(piece)
            amount -= len(piece)
        return b"".join(pieces)

    def _next(self) -> bytes:
        if self._closed:
            return b""
        try:
            piece = next(self._pieces, b"")
        except llmpool.StreamClosed as error:  # closed by another thread
            raise exceptions.ProtocolError("The response was closed while it was read") from error
        except llmpool.HTTPError as error:
            self.close()
            raise self._broken(error) from error
        if not piece:
            self._closed = True
        return piece

    def _broken(self, error: llmpool.HTTPError) -> Exception:
        text = str(error)
        if isinstance(error, llmpool.TimeoutException):
            return _read_timeout(self._call.origin(), text)
        reason: Exception = _disconnected(text)
        if isinstance(reason, RemoteDisconnected) and self.length is not None:
            reason = IncompleteRead(b"", self.length - self.given)
            text = f"{self.given} of {self.length} bytes were read: {text}"
        return exceptions.ProtocolError(f"Connection broken: {text}", reason)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._rest = b""
        if self.given == self.length:
            # urllib3 closes once it has all that was announced. The end itself may still be on
            # its way, and cancelling the request now would cost the connection.
            try:
                for _ in self._pieces:
                    pass
            except (llmpool.HTTPError, llmpool.StreamError):
                pass
        else:
            self.left = True
        self._raw.close()

    def fileno(self) -> int:
        raise io.UnsupportedOperation("the connection is the pool's")

    def isclosed(self) -> bool:
        """Whether it was closed, or read to its end."""
        return self._closed

    closed = property(isclosed)


class Original:
    """What requests and others look for in the response of http.client: the headers, for their
    cookies. It is false where there are none, which spares requests to look three times."""

    __slots__ = ("_body", "msg")

    def __init__(self, body: Body, headers: urllib3.HTTPHeaderDict) -> None:
        self._body = body
        self.msg = headers  # which has get_all(), as http.cookiejar wants it

    def __bool__(self) -> bool:
        return "set-cookie" in self.msg or "set-cookie2" in self.msg

    @property
    def headers(self) -> urllib3.HTTPHeaderDict:
        return self.msg

    def isclosed(self) -> bool:
        return self._body.isclosed()

    def close(self) -> None:
        self._body.close()


class Response(urllib3.HTTPResponse):
    """An answer of a pool as urllib3 has it.

    Attributes:
        llmpool: the answer itself, a llmpool.transport.RawResponse.
    """

    def __init__(
        self,
        raw: transport.RawResponse,
        call: Call,
        *,
        method: str,
        url: str,
        retries: urllib3.Retry,
    ) -> None:
        headers = urllib3.HTTPHeaderDict()
        for name, value in raw.headers:
            headers.add(name.decode("latin-1"), value.decode("latin-1"))
        reason = raw.reason.decode("latin-1")
        if not reason and raw.http_version == b"HTTP/2":  # which has no reason phrases
            reason = responses.get(raw.status, "")
        body = Body(raw, call)
        super().__init__(
            body=body,  # type: ignore[arg-type]
            headers=headers,
            status=raw.status,
            version=_VERSIONS[raw.http_version],
            reason=reason,
            preload_content=False,
            decode_content=False,
            original_response=Original(body, headers),  # type: ignore[arg-type]
            request_method=method,
            request_url=url,
            retries=retries,
        )
        self.version_string = raw.http_version.decode("ascii")
        self.llmpool = raw
        self._body_file = body
        body.length = self.length_remaining

    def stream(
        self, amt: Optional[int] = 2**16, decode_content: Optional[bool] = None
    ) -> Generator[bytes, None, None]:
        """What has come, as soon as it has come, in pieces of at most amt bytes. (urllib3's own
        waits for amt bytes, be it that the answer is in chunks of HTTP/1.1.)"""
        if amt == 0:
            return
        body = self._body_file
        plain = body.read1 if "content-encoding" not in self.headers else None
        while not body.left:
            if plain is None:
                piece = self.read1(amt, decode_content)
            else:  # the same, at half of its price
                piece = plain(amt)
                if self.length_remaining is not None:
                    self.length_remaining -= len(piece)
            if not piece:
                return
            yield piece

    def tell(self) -> int:
        """How many bytes of the answer were given, as they were sent."""
        return self._body_file.given

    def read_chunked(
        self, amt: Optional[int] = None, decode_content: Optional[bool] = None
    ) -> Generator[bytes, None, None]:
        """As stream(): where one chunk ends and the next begins is not known."""
        if not self.chunked:
            raise exceptions.ResponseNotChunked("the answer has no 'Transfer-Encoding: chunked'")
        return self.stream(amt, decode_content)

    def shutdown(self) -> None:
        """Ends the answer, whoever reads it."""
        self.close()

    def __del__(self) -> None:
        """Not close(), which waits: this may be any thread, at any moment. An answer that nobody
        has any more ends by itself."""


# ---- what goes wrong in the call


class Origin:
    """Where a request goes; its objects are urllib3's own, as its errors have them, and connect
    nowhere."""

    __slots__ = ("pool", "connection", "is_proxied")

    def __init__(self, is_tls: bool, host: str, port: int, is_proxied: bool) -> None:
        kind = urllib3.HTTPSConnectionPool if is_tls else urllib3.HTTPConnectionPool
        self.pool = kind(host, port)
        of_tls = HTTPSConnection if is_tls else HTTPConnection
        self.connection: HTTPConnection = of_tls(host, port)
        self.is_proxied = is_proxied


def _connect_timeout(origin: Origin, text: str) -> Exception:
    return _proxys(origin, exceptions.ConnectTimeoutError(origin.connection, text))


def _read_timeout(origin: Origin, text: str) -> Exception:
    return exceptions.ReadTimeoutError(origin.pool, None, f"Read timed out. ({text})")


def _unresolved(origin: Origin, text: str) -> Exception:
    failure = socket.gaierror(socket.EAI_NONAME, text)
    return _proxys(
        origin,
        exceptions.NameResolutionError(origin.pool.host, origin.connection, failure),
    )


def _unconnected(origin: Origin, text: str) -> Exception:
    return _proxys(origin, exceptions.NewConnectionError(origin.connection, text))


def _proxys(origin: Origin, error: Exception) -> Exception:
    """A connection that cannot be made is the proxy's where there is one."""
    if not origin.is_proxied:
        return error
    return exceptions.ProxyError("Unable to connect to proxy", error)


def _of_proxy(origin: Origin, text: str) -> Exception:
    return exceptions.ProxyError("Unable to connect to proxy", OSError(text))


def _aborted(origin: Origin, text: str) -> Exception:
    return exceptions.ProtocolError("Connection aborted.", _disconnected(text))


def _disconnected(text: str) -> Exception:
    if _RESET in text:
        return ConnectionResetError(errno.ECONNRESET, text)
    return RemoteDisconnected(text)


# Of what is not named the next base counts.
_ERRORS: Dict[Type[BaseException], Callable[[Origin, str], Exception]] = {
    llmpool.ConnectTimeout: _connect_timeout,
    llmpool.ReadTimeout: _read_timeout,
    llmpool.WriteTimeout: lambda _, text: exceptions.ProtocolError(
        "Connection aborted.", TimeoutError(text)
    ),
    llmpool.PoolTimeout: lambda origin, text: exceptions.EmptyPoolError(origin.pool, text),
    llmpool.TimeoutException: _read_timeout,
    llmpool.ResolveError: _unresolved,
    llmpool.CertificateError: lambda _, text: exceptions.SSLError(
        ssl.SSLCertVerificationError(1, f"{_UNVERIFIED}: {text}")
    ),
    llmpool.TLSError: lambda _, text: exceptions.SSLError(ssl.SSLError(1, text)),
    llmpool.ConnectError: _unconnected,
    llmpool.ProxyError: _of_proxy,
    llmpool.LocalProtocolError: lambda _, text: exceptions.InvalidHeader(text),
    llmpool.UnsupportedProtocol: lambda _, text: exceptions.InvalidHeader(text),
    llmpool.RemoteProtocolError: lambda _, text: exceptions.ProtocolError(
        "Connection aborted.", BadStatusLine(text)
    ),
    llmpool.Cancelled: lambda origin, text: exceptions.ClosedPoolError(origin.pool, text),
    llmpool.PoolClosed: lambda origin, text: exceptions.ClosedPoolError(origin.pool, text),
    llmpool.InvalidURL: lambda _, text: exceptions.LocationValueError(text),
    llmpool.HTTPError: _aborted,
}


def problem(error: BaseException, origin: Origin) -> Exception:
    """The exception of urllib3 for one of the package that ended a call."""
    for kind in type(error).__mro__:
        if kind in _ERRORS:
            made = _ERRORS[kind](origin, str(error))
            made.__cause__ = error
            return made
    raise error
