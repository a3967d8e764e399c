"""A mock LLM server, for tests and demonstrations without an account.

    python -m llmpool.mock --ttft 0.2 --tokens-per-second 50

speaks the APIs of OpenAI, Anthropic, Gemini, Mistral and Cohere, as far as their SDKs mostly go,
whole and streamed, over HTTP/1.1 and HTTP/2, with TLS; --help has the list. It needs granian:
pip install "libllmpool[mock]".

    with llmpool.mock.MockServer(ttft=0.1) as server:
        pool = llmpool.Pool(ca_file=server.ca_file)
        client = llmpool.Client(base_url=server.url + "/v1", headers=server.headers, pool=pool)

And Routes, which answers what httpx2, or an SDK made of it, would send, without server and network.
"""

from typing import TYPE_CHECKING, Any, List

from ._server import MockServer

if TYPE_CHECKING:
    from ._routes import Call, Calls, Route, Routes, UnmatchedRequest

_ROUTES = ("Call", "Calls", "Route", "Routes", "UnmatchedRequest")

__all__ = ["Call", "Calls", "MockServer", "Route", "Routes", "UnmatchedRequest"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _ROUTES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import _routes

        for each in _ROUTES:
            globals()[each] = getattr(_routes, each)
        return globals()[name]


def __dir__() -> List[str]:
    return sorted({*globals(), *_ROUTES})
