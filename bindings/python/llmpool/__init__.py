"""One HTTP connection pool per process, made for calls to LLM APIs.

    import llmpool

    client = llmpool.Client(base_url="https://api.openai.com/v1", headers={...})
    answer = client.post("/chat/completions", json={...}).raise_for_status().json()

    client = llmpool.AsyncClient(base_url="https://api.openai.com/v1", headers={...})
    async with client.stream("POST", "/chat/completions", json={..., "stream": True}) as response:
        async for event in response.aiter_sse(stop="[DONE]"):
            ...

Python threads, event loops and C code in the process use the same connections, limits and counters.
The interface follows httpx.
"""

from typing import TYPE_CHECKING, Any, List

from ._client.client import Client, Stream
from ._client.functions import get, post, request, stream
from ._client.stream import StreamResponse
from ._http import exceptions as _exceptions
from ._http.config import Breaker, Limits, Retry, Timeout
from ._http.exceptions import *  # noqa: F403
from ._http.headers import Headers
from ._http.json import use_json
from ._http.models import Request, Response
from ._http.spending import BudgetRequest, Spending
from ._http.sse import Event
from ._http.urls import URL
from ._pool.leaks import debug
from ._pool.pool import Pool, budgets, configure, metrics, serve_stats, shared, stats, warm
from ._version import __version__

if TYPE_CHECKING:
    from ._adapters.install import install, installed, uninstall
    from ._client.async_client import AsyncClient, AsyncStream
    from ._client.async_stream import AsyncStreamResponse
    from ._http.budgets import AutoBudget, auto_budget
    from ._http.options import options
    from ._http.timings import Timings
    from ._native.stats import Stats
    from ._pool.budgets import Budget, BudgetLimit, BudgetState
    from ._pool.sight import Histogram, Reasons, RequestState

__all__ = [
    "URL",
    "AsyncClient",
    "AsyncStream",
    "AsyncStreamResponse",
    "AutoBudget",
    "Breaker",
    "Budget",
    "BudgetLimit",
    "BudgetRequest",
    "BudgetState",
    "Client",
    "Event",
    "Headers",
    "Histogram",
    "Limits",
    "Pool",
    "Reasons",
    "Request",
    "RequestState",
    "Response",
    "Retry",
    "Spending",
    "Stats",
    "Stream",
    "StreamResponse",
    "Timeout",
    "Timings",
    "__version__",
    "auto_budget",
    "budgets",
    "configure",
    "debug",
    "get",
    "install",
    "installed",
    "metrics",
    "options",
    "post",
    "request",
    "serve_stats",
    "shared",
    "stats",
    "stream",
    "uninstall",
    "use_json",
    "warm",
]
__all__ += _exceptions.__all__

for _name in __all__:  # so that tracebacks say llmpool.ReadTimeout
    if getattr(globals().get(_name), "__module__", "").startswith("llmpool._"):
        globals()[_name].__module__ = "llmpool"
del _name

# Imported when they are asked for: asyncio alone takes longer than all of this package.
_LATER = {
    "AsyncClient": "_client.async_client",
    "AsyncStream": "_client.async_client",
    "AsyncStreamResponse": "_client.async_stream",
    "AutoBudget": "_http.budgets",
    "Budget": "_pool.budgets",
    "BudgetLimit": "_pool.budgets",
    "BudgetState": "_pool.budgets",
    "Histogram": "_pool.sight",
    "Reasons": "_pool.sight",
    "RequestState": "_pool.sight",
    "Stats": "_native.stats",
    "Timings": "_http.timings",
    "auto_budget": "_http.budgets",
    "install": "_adapters.install",
    "installed": "_adapters.install",
    "options": "_http.options",
    "uninstall": "_adapters.install",
}

if not TYPE_CHECKING:  # a checker would believe that every name is there

    def __getattr__(name: str) -> Any:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f".{_LATER[name]}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> List[str]:
    return sorted({*globals(), *_LATER})
