"""The ways in which a program may call: a client for each call, httpx2's pool, and ours. Each gives
when its calls began, had a connection and were answered."""

import asyncio
import ssl
import time
from typing import Any, List, NamedTuple, Optional

import llmpool

PATH = "/chat/completions"


class Call(NamedTuple):
    """Times in seconds since the first of them began.

    Attributes:
        connected: when it had a connection.
    """

    began: float
    connected: float
    answered: float

    @property
    def took(self) -> float:
        return self.answered - self.began


class Calls(NamedTuple):
    """What a way of calling came to.

    Attributes:
        connections: that were opened for it.
    """

    name: str
    calls: List[Call]
    connections: int

    @property
    def took(self) -> float:
        return max(call.answered for call in self.calls)


def httpx2_or_none() -> Any:
    try:
        import httpx2
    except ImportError:  # of Python 3.11 and newer
        return None
    return httpx2


class Clock:
    """Of one way of calling."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.calls: List[Call] = []
        self.connections = 0

    def now(self) -> float:
        return time.perf_counter() - self._start

    def add(self, began: float, connected: Optional[float]) -> None:
        self.calls.append(Call(began, connected or began, self.now()))

    def result(self, name: str) -> Calls:
        return Calls(name, self.calls, self.connections)


# ---- ours


def connecting(timings: "llmpool.Timings") -> float:
    """Until it had a connection, its own or another's."""
    return timings.admitted or 0.0


def with_pool(endpoint: Any, count: int) -> Calls:
    with llmpool.Pool(**endpoint.pool_options) as pool:
        client = llmpool.Client(base_url=endpoint.url, headers=endpoint.headers, pool=pool)
        clock = Clock()
        for _ in range(count):
            began = clock.now()
            response = client.post(PATH, json=endpoint.body).raise_for_status()
            clock.add(began, began + connecting(response.timings))
        clock.connections = pool.stats().opened
    return clock.result("llmpool")


def with_a_pool_each(endpoint: Any, count: int) -> Calls:
    """What a client for each call amounts to, where there is no httpx2 to show it with."""
    clock = Clock()
    for _ in range(count):
        began = clock.now()
        with llmpool.Pool(**endpoint.pool_options) as pool:
            client = llmpool.Client(base_url=endpoint.url, headers=endpoint.headers, pool=pool)
            response = client.post(PATH, json=endpoint.body).raise_for_status()
            clock.add(began, began + connecting(response.timings))
            clock.connections += pool.stats().opened
    return clock.result("a client each")


async def burst_with_pool(endpoint: Any, count: int) -> Calls:
    with llmpool.Pool(**endpoint.pool_options) as pool:
        options = {"base_url": endpoint.url, "headers": endpoint.headers, "pool": pool}
        async with llmpool.AsyncClient(**options) as client:
            clock = Clock()

            async def call() -> None:
                began = clock.now()
                response = await client.post(PATH, json=endpoint.body)
                response.raise_for_status()
                clock.add(began, began + connecting(response.timings))

            await asyncio.gather(*(call() for _ in range(count)))
            clock.connections = pool.stats().opened
    return clock.result("llmpool")


# ---- httpx2's


class Trace:
    """Hears of what httpx2 does for one request."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.connected: Optional[float] = None

    def __call__(self, event: str, _: Any) -> None:
        if event == "connection.connect_tcp.complete":
            self._clock.connections += 1
        elif event.endswith("send_request_headers.started"):
            self.connected = self._clock.now()

    async def hear(self, event: str, info: Any) -> None:
        self(event, info)


def _options(endpoint: Any) -> Any:
    verify = ssl.create_default_context(cafile=endpoint.ca_file) if endpoint.ca_file else True
    return {"headers": endpoint.headers, "verify": verify, "timeout": 60, "http2": True}


def with_httpx2(endpoint: Any, count: int, httpx2: Any) -> Calls:
    clock = Clock()
    with httpx2.Client(base_url=endpoint.url, **_options(endpoint)) as client:
        for _ in range(count):
            _ask(client, endpoint, clock, clock.now())
    return clock.result("httpx2's pool")


def with_a_client_each(endpoint: Any, count: int, httpx2: Any) -> Calls:
    clock = Clock()
    for _ in range(count):
        began = clock.now()
        with httpx2.Client(base_url=endpoint.url, **_options(endpoint)) as client:
            _ask(client, endpoint, clock, began)
    return clock.result("a client each")


def _ask(client: Any, endpoint: Any, clock: Clock, began: float) -> None:
    trace = Trace(clock)
    response = client.post(PATH, json=endpoint.body, extensions={"trace": trace})
    response.raise_for_status()
    clock.add(began, trace.connected)


async def burst_with_httpx2(endpoint: Any, count: int, httpx2: Any) -> Calls:
    async with httpx2.AsyncClient(base_url=endpoint.url, **_options(endpoint)) as client:
        clock = Clock()

        async def call() -> None:
            began, trace = clock.now(), Trace(clock)
            extensions = {"trace": trace.hear}
            response = await client.post(PATH, json=endpoint.body, extensions=extensions)
            response.raise_for_status()
            clock.add(began, trace.connected)

        await asyncio.gather(*(call() for _ in range(count)))
    return clock.result("httpx2's pool")
