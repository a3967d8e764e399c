"""leaving.py WAY URL COUNT [CA_FILE] - how soon the server sees that a client left its stream, by each way to leave.

WAY is "sync" or "async" and one of the names below, with a dot between. A stream of token_server.py's /endless is read
for a moment and left; the time from then to the server's notice (RST_STREAM over HTTP/2, the end of the connection over
HTTP/1.1) is asked from the server over a connection of its own. Prints a line of JSON: of COUNT times.
"""

import asyncio
import contextlib
import gc
import json
import sys
import time
import warnings

import llmpool

CLOCK = time.monotonic_ns
WAIT = 5  # seconds, until what was not seen counts as never seen
warnings.simplefilter("ignore", ResourceWarning)  # of the streams that are abandoned


# ---- blocking: each reads a little, leaves, and gives the time when it did


def sync_break(stream):
    with stream as response:
        for _ in response.iter_sse():
            at = CLOCK()
            break
    return at


def sync_exception(stream):
    with contextlib.suppress(ZeroDivisionError), stream as response:
        for _ in response.iter_sse():
            at = CLOCK()
            raise ZeroDivisionError
    return at


def sync_close(stream):
    response = stream.__enter__()
    next(response.iter_sse())
    at = CLOCK()
    response.close()
    return at


def sync_abandoned(stream):
    response = stream.__enter__()
    next(response.iter_sse())
    at = CLOCK()
    del response
    stream = None  # noqa: F841
    gc.collect()
    return at


# ---- asyncio


async def read_on(stream):
    async with stream as response:
        async for _ in response.aiter_sse():
            pass


async def async_break(stream):
    async with stream as response:
        async for _ in response.aiter_sse():
            at = CLOCK()
            break
    return at


async def async_exception(stream):
    with contextlib.suppress(ZeroDivisionError):
        async with stream as response:
            async for _ in response.aiter_sse():
                at = CLOCK()
                raise ZeroDivisionError
    return at


async def async_close(stream):
    response = await stream.__aenter__()
    await response.aiter_sse().__anext__()
    at = CLOCK()
    await response.aclose()
    return at


async def async_abandoned(stream):
    response = await stream.__aenter__()
    iterator = response.aiter_sse()
    await iterator.__anext__()
    at = CLOCK()
    del response, iterator
    stream = None  # noqa: F841
    gc.collect()
    return at


async def async_cancelled(stream):
    task = asyncio.ensure_future(read_on(stream))
    await asyncio.sleep(0.05)
    at = CLOCK()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return at


async def async_timeout(stream):
    deadline = asyncio.get_running_loop().time() + 0.05
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(read_on(stream), 0.05)
    return int(deadline * 1e9)  # the loop's clock is the same; the loop's own lateness counts


def work_sync(leave, client, names):
    return [leave(client.stream("GET", "/endless", params={"name": name})) for name in names]


async def work_async(leave, client, names):
    times = []
    for name in names:
        times.append(await leave(client.stream("GET", "/endless", params={"name": name})))
        await asyncio.sleep(0.005)
    return times


def work_loop_closed(client, names):
    """A loop that is closed under its streams, without a word to them."""
    times = []
    for name in names:
        loop = asyncio.new_event_loop()
        task = loop.create_task(read_on(client.stream("GET", "/endless", params={"name": name})))
        loop.run_until_complete(asyncio.sleep(0.05))
        task._log_destroy_pending = False
        times.append(CLOCK())
        loop.close()
        del task, loop
        gc.collect()
    return times


def seen(client, name):
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        at = int(client.get("/left", params={"name": name}).text)
        if at:
            return at
        time.sleep(0.01)
    raise RuntimeError(f"the server never saw that {name} was left")


def main():
    way, url, count, *ca_file = sys.argv[1:]
    options = {"ca_file": ca_file[0]} if ca_file else {}
    pool = llmpool.Pool(limits=llmpool.Limits(max_connections=10), **options)
    asking = llmpool.Client(base_url=url, pool=llmpool.Pool(**options))
    # The connection is there before, so that each request has reached the server when its client leaves.
    llmpool.Client(base_url=url, pool=pool).get("/left", params={"name": "nobody"}).raise_for_status()
    names = [f"{way}-{CLOCK()}-{index}" for index in range(int(count))]
    kind, _, name = way.partition(".")
    if name == "loop_closed":
        times = work_loop_closed(llmpool.AsyncClient(base_url=url, pool=pool), names)
    elif kind == "async":
        client = llmpool.AsyncClient(base_url=url, pool=pool)
        times = asyncio.run(work_async(globals()[f"async_{name}"], client, names))
    else:
        times = work_sync(globals()[f"sync_{name}"], llmpool.Client(base_url=url, pool=pool), names)
    delays = sorted((seen(asking, name) - at) / 1e3 for name, at in zip(names, times))
    last = len(delays) - 1
    shares = {"p50_us": 0.5, "p90_us": 0.9, "p99_us": 0.99, "max_us": 1}
    print(json.dumps({"count": len(delays), **{name: delays[round(share * last)] for name, share in shares.items()}}))


if __name__ == "__main__":
    main()
