"""Requests of httpcore on llmpool: those that httpx's own transports make, for install()."""

from typing import Any, Callable

import llmpool
from llmpool import transport

from .httpx import SCHEMES, Kit, server_name


class CoreKit(Kit):
    """Takes requests of httpcore and gives its responses. The exceptions are httpx's, which its
    transports let pass."""

    def __init__(self, module: Any, core: Any, stream: Any, async_stream: Any) -> None:
        super().__init__(module, stream, async_stream)
        self.core = core

    def why_not(self, request: Any) -> str:
        """Why a pool cannot carry this request; "": it can."""
        if request.url.scheme not in SCHEMES:
            return f"the scheme {request.url.scheme.decode('latin-1')!r}"
        if request.method == b"CONNECT" or not request.url.target.startswith(b"/"):
            return "CONNECT, and targets in another form than that of the origin"
        for name, _ in request.headers:
            if len(name) == 7 and name.lower() == b"upgrade":
                return "Upgrade, which takes the connection out of a pool"
        return ""

    def request(
        self, request: Any, pieces: Callable[[Any], Any], retry: llmpool.Retry
    ) -> transport.RawRequest:
        extensions = request.extensions
        options = transport.current_options(extensions.get("llmpool"))
        url = request.url
        host = b"[%s]" % url.host if b":" in url.host else url.host
        if url.port is not None:
            host = b"%s:%d" % (host, url.port)
        stream = request.stream
        try:
            return transport.RawRequest(
                request.method,
                b"%s://%s%s" % (url.scheme, host, url.target),
                request.headers,
                b"".join(stream) if isinstance(stream, self.plain) else pieces(stream),
                timeout=self._timeout(extensions.get("timeout") or {}, options),
                server_name=server_name(extensions),
                translate=self.translate,
                **options.arguments(retry),
            )
        except (llmpool.HTTPError, llmpool.InvalidURL) as error:
            raise self.translate(error) from error

    def answer(self, raw: transport.BaseRawResponse, stream: Any) -> Any:
        return self.core.Response(
            raw.status, headers=raw.headers, content=stream, extensions=self.extensions(raw)
        )
