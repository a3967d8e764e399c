#!/usr/bin/env python3
"""Shows what the pool is for, with a server 25 ms away each way, as one in another city is:
(a) calls one after the other with a client for each, with httpx2's pool and with ours, (b) a cold
burst, (c) tokens as they come; and nearby: (d) Python threads and a C library on one connection,
(e) a pool that is exhausted.

Runs against the mock, or with LLMPOOL_DEMO_URL and LLMPOOL_DEMO_KEY (a) and (d) against an
OpenAI-compatible endpoint, whose URL ends before /chat/completions. There every call is paid for:
LLMPOOL_DEMO_MODEL chooses the model, LLMPOOL_DEMO_CALLS the number of calls of each way.
"""

import argparse
import asyncio
import contextlib
import ctypes
import dataclasses
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import picture
import ways

import llmpool
from llmpool.mock import MockServer

ONE_WAY_MS = 25
DELAY_PROXY = Path(__file__).resolve().parents[3] / "Benchmarks" / "python" / "delay_proxy.py"


@dataclasses.dataclass
class Endpoint:
    url: str  # of the API, as https://api.openai.com/v1
    key: str
    model: str
    ca_file: Optional[str]
    is_mock: bool

    @property
    def headers(self) -> Dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    @property
    def body(self) -> Dict[str, Any]:
        message = {"role": "user", "content": "Say hello."}
        return {"model": self.model, "messages": [message], "max_tokens": 8}

    @property
    def pool_options(self) -> Dict[str, Any]:
        return {"ca_file": self.ca_file} if self.ca_file else {}


@contextlib.contextmanager
def far_away(endpoint: Endpoint) -> Iterator[Endpoint]:
    """The same endpoint behind a proxy on loopback that passes every byte on 25 ms later.

    What comes first on a new connection takes a round trip more, as TCP's handshake would.
    """
    scheme, _, rest = endpoint.url.partition("://")
    authority, _, path = rest.partition("/")
    command = [sys.executable, str(DELAY_PROXY), "0", authority.rpartition(":")[2], str(ONE_WAY_MS)]
    proxy = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert proxy.stdout is not None
        port = int(proxy.stdout.readline())
        yield dataclasses.replace(endpoint, url=f"{scheme}://127.0.0.1:{port}/{path}")
    finally:
        proxy.terminate()
        proxy.communicate()


def of_mock(server: MockServer) -> Endpoint:
    return Endpoint(server.url + "/v1", server.api_key, "gpt-mock", server.ca_file, True)


def table(title: str, head: List[str], rows: List[List[Any]]) -> None:
    cells = [head, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    print(f"\n{title}\n" if title else "")
    for number, row in enumerate(cells):
        first = row[0].ljust(widths[0])
        rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))
        print("  " + "  ".join([first, *rest]))
        if number == 0:
            print("  " + "  ".join("-" * width for width in widths))
    sys.stdout.flush()


def doing(what: str) -> None:
    print(f"\n... {what}", flush=True)


def call(client: llmpool.Client, endpoint: Endpoint) -> float:
    began = time.perf_counter()
    client.post("/chat/completions", json=endpoint.body).raise_for_status()
    return time.perf_counter() - began


def one_after_the_other(endpoint: Endpoint, count: int, where: str) -> None:
    """(a) A line for each way, in time."""
    doing(f"{count} calls in each of three ways: about 10 s")
    httpx2 = ways.httpx2_or_none()
    if httpx2:
        shown = [
            ways.with_a_client_each(endpoint, count, httpx2),
            ways.with_httpx2(endpoint, count, httpx2),
        ]
    else:
        shown = [ways.with_a_pool_each(endpoint, count)]
    shown.append(ways.with_pool(endpoint, count))
    print(f"\n(a) {count} calls, one after the other{where}\n")
    scale = max(way.took for way in shown)
    for way in shown:
        parts = [part for call in way.calls for part in parts_of(call)]
        print(f"  {way.name:15}{picture.row(parts, scale)} {way.took * 1000:6.0f} ms")
    print(f"\n  {LEGEND}")
    rows = [row(way) for way in shown]
    table("", ["", "total", "median", "slowest", "connections"], rows)


def cold_burst(endpoint: Endpoint, count: int) -> bool:
    """(b) All at once, where no connection is there yet: a line for each fifth call."""
    doing(f"{count} calls at once, on pools that have no connection yet: about 2 s")
    httpx2 = ways.httpx2_or_none()
    shown = [asyncio.run(ways.burst_with_httpx2(endpoint, count, httpx2))] if httpx2 else []
    shown.append(asyncio.run(ways.burst_with_pool(endpoint, count)))
    print(f"\n(b) {count} calls at once on a cold pool, {ONE_WAY_MS} ms away each way")
    scale = max(way.took for way in shown)
    for way in shown:
        opened = f"{way.connections} connection{'' if way.connections == 1 else 's'}"
        print(f"\n  {way.name}: {opened}, {way.took * 1000:.0f} ms\n")
        for call in sorted(way.calls, key=lambda call: call.answered)[4::5]:
            line = picture.row(parts_of(call), scale)
            print(f"  {'':15}{line} {call.answered * 1000:6.0f} ms")
    print(f"\n  {LEGEND}")
    sys.stdout.flush()
    return shown[-1].connections == 1


def tokens(endpoint: Endpoint, streams: int) -> bool:
    """(c) Streams on one connection: the words of one as they come, then all as a picture."""
    doing(f"{streams} streams at once, the words of the first as they come:")
    shown, opened = asyncio.run(streamed(endpoint, streams))
    print(f"\n\n(c) {streams} streams on {opened} connection, {ONE_WAY_MS} ms away each way\n")
    scale = max(times[-1] for _, times in shown)
    for number, (call, times) in enumerate(shown, 1):
        line = picture.row(parts_of(call), scale, times)
        print(f"  stream {number:<8}{line} {len(times):3} tokens")
    print(f"\n  {LEGEND}  {picture.legend((picture.TOKEN, 'a token comes'))}")
    sys.stdout.flush()
    return opened == 1


async def streamed(endpoint: Endpoint, streams: int) -> "Tuple[List[Any], int]":
    """Of each stream its call, which is answered with the first token, and when each token came."""
    body = {**endpoint.body, "stream": True, "max_tokens": 64}
    with llmpool.Pool(**endpoint.pool_options) as pool:
        options: Any = {"base_url": endpoint.url, "headers": endpoint.headers, "pool": pool}
        async with llmpool.AsyncClient(**options) as client:
            clock = ways.Clock()

            async def read(is_first: bool) -> Any:
                began, times = clock.now(), []
                async with client.stream("POST", ways.PATH, json=body) as response:
                    async for event in response.aiter_sse(stop="[DONE]"):
                        text = event.json()["choices"][0]["delta"].get("content")
                        if text:
                            times.append(clock.now())
                            if is_first:
                                print(text, end="", flush=True)
                connected = began + ways.connecting(response.timings)
                return ways.Call(began, connected, times[0]), times

            shown = await asyncio.gather(*(read(number == 0) for number in range(streams)))
            return shown, pool.stats().opened


LEGEND = picture.legend(
    (picture.CONNECTING, "it connects, or waits for who does"),
    (picture.ASKING, "it asks, until the answer comes"),
)


def parts_of(call: ways.Call) -> "List[Tuple[int, float, float]]":
    return [
        (picture.CONNECTING, call.began, call.connected),
        (picture.ASKING, call.connected, call.answered),
    ]


def row(way: ways.Calls) -> List[Any]:
    times = [call.took for call in way.calls]
    return [
        way.name,
        f"{sum(times) * 1000:.0f} ms",
        f"{statistics.median(times) * 1000:.2f} ms",
        f"{max(times) * 1000:.2f} ms",
        way.connections,
    ]


def run_c(library: str, endpoint: Endpoint, calls: int, in_flight: int) -> "tuple[int, str]":
    """Runs the C library's calls; it finds the shared pool by itself."""
    function = ctypes.CDLL(library).demo_run
    function.restype = ctypes.c_int
    function.argtypes = (
        ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int,
        ctypes.c_char_p, ctypes.c_size_t,
    )  # fmt: skip
    report = ctypes.create_string_buffer(4096)
    result = function(
        (endpoint.url + "/chat/completions").encode(),
        endpoint.ca_file.encode() if endpoint.ca_file else None,
        endpoint.key.encode(),
        calls,
        in_flight,
        report,
        len(report),
    )
    return result, report.value.decode("utf-8", "replace").strip()


def python_and_c(endpoint: Endpoint, library: Optional[str], calls: int, in_flight: int) -> bool:
    """(d) Half of the calls from Python threads, half from C, at the same time."""
    doing(f"{calls} calls, {in_flight} at a time, on the shared pool")
    llmpool.configure(**endpoint.pool_options)
    client = llmpool.Client(base_url=endpoint.url, headers=endpoint.headers)
    origin = llmpool.URL(endpoint.url).origin
    python_calls = calls // 2 if library else calls
    python_threads = max(1, in_flight // 2 if library else in_flight)
    c_result: List[Any] = [0, "no C library was given"]

    def from_c() -> None:
        assert library
        c_result[:] = run_c(library, endpoint, calls - python_calls, in_flight - python_threads)

    c_thread = threading.Thread(target=from_c, daemon=True)
    began = time.perf_counter()
    if library:
        c_thread.start()
    with ThreadPoolExecutor(python_threads) as executor:
        times = list(executor.map(lambda _: call(client, endpoint), range(python_calls)))
    while c_thread.is_alive():
        c_thread.join(0.1)  # in steps, so that Ctrl-C is not held up
    took = time.perf_counter() - began

    print(f"\n(d) {calls} calls, {in_flight} at a time, from Python threads and a C library\n")
    print(f"  Python: {len(times)} calls, median {statistics.median(times) * 1000:.1f} ms")
    for line in c_result[1].splitlines():
        print(f"  C:      {line}")
    print(f"  Both:   {took * 1000:.0f} ms, {calls / took:.0f} calls a second")
    stats = llmpool.stats(origin)
    print(f"  Counters as Python sees them ({origin}):")
    print(
        f"          submitted={stats.submitted} succeeded={stats.succeeded} "
        f"failed={stats.failed} opened={stats.opened} reused={stats.reused}"
    )
    good = c_result[0] == 0 and stats.succeeded == calls and stats.failed == 0
    if endpoint.is_mock:
        good = good and stats.opened == 1
    if not good:
        print("  NOT as it should be: every call to succeed, on one HTTP/2 connection")
    sys.stdout.flush()
    return good


def exhausted(endpoint: Endpoint) -> bool:
    """(e) One connection, HTTP/1.1, in use: the next call waits in vain."""
    doing("two calls on a pool that may have one connection: about 1 s")
    limits = llmpool.Limits(max_connections=1)
    with llmpool.Pool(limits=limits, http2=False, **endpoint.pool_options) as pool:
        client = llmpool.Client(base_url=endpoint.url, headers=endpoint.headers, pool=pool)
        holder = threading.Thread(target=call, args=(client, endpoint), daemon=True)
        holder.start()
        while pool.stats().active != 1:
            time.sleep(0.001)
        began = time.perf_counter()
        print("\n(e) a pool of one connection that is in use\n")
        try:
            client.post("/chat/completions", json=endpoint.body, timeout=llmpool.Timeout(pool=0.1))
        except llmpool.PoolTimeout as error:
            took = time.perf_counter() - began
            print(f"  PoolTimeout after {took * 1000:.0f} ms: {error}")
            print(f"  {error.status}; nothing was sent: {error.unseen}")
            good = True
        else:
            print("  NOT as it should be: the call went through")
            good = False
        holder.join(30)
    sys.stdout.flush()
    return good


def show_stats() -> None:
    stats = llmpool.stats()
    names = [name for name in vars(stats) if name != "utilization"]
    half = (len(names) + 1) // 2
    rows = []
    for left, right in zip(names[:half], [*names[half:], ""]):
        rows.append([left, getattr(stats, left), right, getattr(stats, right) if right else ""])
    table("The shared pool's statistics", ["counter", "value", "counter", "value"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("c_library", nargs="?", help="path of libdemo_client.so")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the mock is stopped then too
    url = os.environ.get("LLMPOOL_DEMO_URL")
    good = True
    with contextlib.ExitStack() as stack:
        if url:
            calls = int(os.environ.get("LLMPOOL_DEMO_CALLS", "20"))
            many, in_flight = calls, min(10, calls)
            endpoint = Endpoint(
                url.rstrip("/"),
                os.environ.get("LLMPOOL_DEMO_KEY", ""),
                os.environ.get("LLMPOOL_DEMO_MODEL", "gpt-4o-mini"),
                os.environ.get("LLMPOOL_DEMO_CA_FILE"),
                False,
            )
        else:
            calls, many, in_flight = 20, 200, 50
            # 20 ms a call, as if it had something to think about.
            mock = stack.enter_context(MockServer(ttft=0.02, max_seconds=300))
            endpoint = of_mock(mock)
        print(f"endpoint {endpoint.url}, library {llmpool.shared()!r}")
        if endpoint.is_mock:
            with far_away(endpoint) as far:
                one_after_the_other(far, calls, f", {ONE_WAY_MS} ms away each way")
                good &= cold_burst(far, 50)
            writer = stack.enter_context(
                MockServer(ttft=0.1, tokens_per_second=20, max_seconds=300)
            )
            with far_away(of_mock(writer)) as far:
                good &= tokens(far, 8)
        else:
            one_after_the_other(endpoint, calls, "")
        good &= python_and_c(endpoint, arguments.c_library, many, in_flight)
        if endpoint.is_mock:
            slow = stack.enter_context(MockServer(ttft=1, max_seconds=300))
            good &= exhausted(of_mock(slow))
        show_stats()
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
