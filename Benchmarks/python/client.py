"""client.py CLIENT WORK URL COUNT IN_FLIGHT [CA_FILE] - one Python client at one work; prints a line of JSON.

CLIENT with "+asyncio" at its end runs on asyncio's own loop, else on uvloop; with "+orjson" it writes and reads JSON
with that. The CLIENT "floor" is what the work costs at the least: for POSTs c/floor.c below the same tasks and JSON,
for events an empty source, so that what is left is what the work itself does with an event.

Works:  post     IN_FLIGHT threads, each one POST after another
        post64   asyncio, IN_FLIGHT tasks, each a POST after another
        sse      asyncio, IN_FLIGHT streams read to their end again and again until COUNT events came
        text     the same, and nobody parses the JSON of the events
        paced    asyncio, IN_FLIGHT streams, measured for COUNT milliseconds in the middle
        tokens   asyncio, IN_FLIGHT streams of token_server.py for COUNT tokens each: how long each token was on its way
        import   import and first client, cold
        calls    in ms, wall-clock: a call with a new client each, COUNT calls of one client one after another (each),
                 and IN_FLIGHT calls of a new client at once (all)

Each client is used as its documentation recommends for speed: one client, connections reused. CPU is that of the whole
process, all threads, while it works; a tenth of the work goes before the measurement.
"""

import asyncio
import glob
import itertools
import json
import resource
import sys
import threading
import time
import urllib.request
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BODY = {"model": "m", "messages": [{"role": "user", "content": "x" * 1950}], "stream": False}
STREAM_BODY = {"model": "gpt-mock", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 400}
KEY = "mock-key"
EVENT_START = b"data: "
PACED_EVENT = json.dumps(
    {
        "id": "chatcmpl-7d3b2f6e2b0a4cf6", "object": "chat.completion.chunk", "created": 1700000000,
        "model": "gpt-mock",
        "choices": [{"index": 0, "delta": {"content": " token"}, "finish_reason": None}],
    }
)  # fmt: skip
loads = json.loads  # as +orjson has it, for whoever parses the answer himself; and of the events' data


def dumps(value):
    return json.dumps(value).encode()


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def threads_cpu():
    """CPU of each thread of the process by its name, in ticks."""
    used = {}
    for path in glob.glob("/proc/self/task/*/stat"):
        with open(path) as file:
            name, rest = file.read().split("(", 1)[1].rsplit(")", 1)
        used[name] = used.get(name, 0) + sum(map(int, rest.split()[11:13]))
    return used


class Measure:
    def start(self):
        self.latency = []
        self.wall, self.cpu = time.perf_counter(), cpu()

    def stop(self, count):
        used, wall = cpu() - self.cpu, time.perf_counter() - self.wall
        latency = sorted(self.latency) or [0]
        result = {"count": count, "cpu_us": used / count * 1e6, "per_second": count / wall}
        for name, share in (("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99)):
            result[name] = latency[int(share * (len(latency) - 1) + 0.5)] * 1e6
        result["max_rss_kb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return result


# ---- one POST, blocking: each makes a function that makes another, for a thread: that one sends json and gives the
# decoded answer


def floor(url, ca_file):
    """c/floor.c and the descriptor of its queue."""
    sys.path.append(str(Path(__file__).resolve().parents[2] / "build" / "bench"))
    import llmpool_floor

    lines = f"content-type: application/json\r\nauthorization: Bearer {KEY}\r\n"
    kept.append((url, lines, ca_file))  # it does not copy them
    return llmpool_floor, llmpool_floor.open(url, lines, ca_file)


kept = []


def sync_floor(url, ca_file):
    perform = floor(url, ca_file)[0].perform
    return lambda: lambda: loads(perform(dumps(BODY)))


def sync_llmpool(url, ca_file):
    import llmpool

    pool = llmpool.Pool(**({"ca_file": ca_file} if ca_file else {}))
    client = llmpool.Client(headers={"authorization": f"Bearer {KEY}"}, pool=pool)
    return lambda: lambda: client.post(url, json=BODY).json()


def sync_pycurl(url, ca_file):
    return lambda: pycurl_handle(url, ca_file)


def pycurl_handle(url, ca_file):
    import pycurl

    handle = pycurl.Curl()
    handle.setopt(pycurl.URL, url)
    handle.setopt(pycurl.NOSIGNAL, 1)
    headers = ["content-type: application/json", f"authorization: Bearer {KEY}", "Expect:"]
    handle.setopt(pycurl.HTTPHEADER, headers)
    if ca_file:
        handle.setopt(pycurl.CAINFO, ca_file)

    def call():
        handle.setopt(pycurl.POSTFIELDS, dumps(BODY))
        answer = handle.perform_rb()
        if handle.getinfo(pycurl.RESPONSE_CODE) != 200:
            raise RuntimeError("not 200")
        return loads(answer)

    return call


def _sync_httpx(module, url, ca_file, **options):
    import ssl

    verify = ssl.create_default_context(cafile=ca_file) if ca_file else True
    client = module.Client(headers={"authorization": f"Bearer {KEY}"}, verify=verify, **options)
    return lambda: lambda: client.post(url, json=BODY).json()


def sync_httpx(url, ca_file):
    import httpx

    return _sync_httpx(httpx, url, ca_file)


def sync_httpx2(url, ca_file):
    import httpx2

    return _sync_httpx(httpx2, url, ca_file, http2=bool(ca_file))


def _sync_requests(module, url, ca_file):
    session = module.Session()
    session.headers["authorization"] = f"Bearer {KEY}"
    if ca_file:
        session.verify = ca_file
    return lambda: lambda: session.post(url, json=BODY).json()


def sync_requests(url, ca_file):
    import requests

    return _sync_requests(requests, url, ca_file)


def sync_niquests(url, ca_file):
    import niquests

    return _sync_requests(niquests, url, ca_file)


def sync_curl_cffi(url, ca_file):
    import curl_cffi.requests

    return _sync_requests(curl_cffi.requests, url, ca_file)


def sync_pyreqwest(url, ca_file):
    from pyreqwest.client import SyncClientBuilder

    client = _reqwest(SyncClientBuilder(), ca_file).build()
    return lambda: lambda: client.post(url).body_json(BODY).build().send().json()


def _reqwest(builder, ca_file):
    builder = builder.default_headers({"authorization": f"Bearer {KEY}"})
    if ca_file:
        builder = builder.add_root_certificate_pem(open(ca_file, "rb").read()).http2(True)
    return builder


# ---- what turns bytes into events, where the client has nothing of its own


class Split:
    """The least: lines that begin with "data: ", one line an event. No parser of the standard."""

    def __init__(self):
        self.left = b""

    def __call__(self, chunk):
        *lines, self.left = (self.left + chunk if self.left else chunk).split(b"\n")
        for line in lines:
            if line.startswith(EVENT_START) and line != b"data: [DONE]":
                yield loads(line[6:])


class Standard:
    """httpx-sse's decoder: event, id, retry and data of several lines as the standard has them, like aiter_sse()."""

    def __init__(self):
        import codecs

        from httpx_sse._decoders import SSEDecoder, SSELineDecoder

        self.text = codecs.getincrementaldecoder("utf-8")().decode
        self.lines, self.event = SSELineDecoder().decode, SSEDecoder().decode

    def __call__(self, chunk):
        for line in self.lines(self.text(chunk)):
            event = self.event(line)
            if event is not None and event.data != "[DONE]":
                yield loads(event.data)


# ---- asyncio: each gives (post, stream, close); stream is an async generator of decoded events


warmed = []  # pools, the latest last: work_calls warms it


def async_llmpool(url, ca_file, parser):
    import llmpool

    limits = llmpool.Limits(max_connections=200, max_keepalive_connections=200)
    pool = llmpool.Pool(limits=limits, **({"ca_file": ca_file} if ca_file else {}))
    client = llmpool.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, pool=pool)
    warmed.append(pool)

    async def post():
        return (await client.post(url, json=BODY)).json()

    async def stream(method):
        body = STREAM_BODY if method == "POST" else None
        async with client.stream(method, url, json=body) as answer:
            async for event in answer.aiter_sse():
                if event.data != "[DONE]":
                    yield event.json() if loads is json.loads else loads(event.data)

    return post, stream, client.aclose


def async_floor(url, ca_file, parser):
    loop = asyncio.get_running_loop()
    if parser is not None:
        return None, empty_source(loop, url), nothing
    extension, descriptor = floor(url, ca_file)
    submit = extension.submit
    loop.add_reader(descriptor, extension.read)

    async def post():
        future = loop.create_future()
        submit(dumps(BODY), future)
        return loads(await future)

    async def close():
        loop.remove_reader(descriptor)

    return post, None, close


async def nothing():
    pass


def empty_source(loop, url):
    """Streams whose events are there already; to a POST 50 a second, of which a timer tells many streams together."""
    events, due, streams = [], [[] for _ in range(4)], itertools.count()

    def tick(number):
        waiting, due[number % 4] = due[number % 4], []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        loop.call_later(0.005, tick, number + 1)

    async def stream(method):
        if method == "GET":
            if not events:
                with urllib.request.urlopen(url) as answer:
                    events.extend(line[6:] for line in answer.read().decode().splitlines() if line)
            for data in events:
                if data != "[DONE]":
                    yield loads(data)
            return
        number = next(streams)
        if number == 0:
            tick(0)
        while True:
            future = loop.create_future()
            due[number % 4].append(future)
            await future
            yield loads(PACED_EVENT)

    return stream


def async_pyreqwest(url, ca_file, parser):
    from pyreqwest.client import ClientBuilder

    client = _reqwest(ClientBuilder(), ca_file).build()

    async def post():
        return await (await client.post(url).body_json(BODY).build().send()).json()

    async def stream(method):
        request = client.request(method, url)
        if method == "POST":
            request = request.body_json(STREAM_BODY)
        # Its default holds back what came until 64 KiB are there.
        async with request.streamed_read_buffer_limit(0).build_streamed() as answer:
            events = parser()
            read = answer.body_reader.read_chunk
            while (chunk := await read()) is not None:
                for event in events(chunk.to_bytes()):
                    yield event

    return post, stream, client.close


def async_aiohttp(url, ca_file, parser):
    import ssl

    import aiohttp

    context = ssl.create_default_context(cafile=ca_file) if ca_file else True
    connector = aiohttp.TCPConnector(limit=0, ssl=context)
    client = aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}, connector=connector)

    async def post():
        async with client.post(url, json=BODY) as answer:
            return await answer.json()

    async def stream(method):
        async with client.request(method, url, json=STREAM_BODY if method == "POST" else None) as answer:
            events = parser()
            async for chunk in answer.content.iter_any():
                for event in events(chunk):
                    yield event

    return post, stream, client.close


def _async_httpx(module, url, ca_file, parser, http2):
    import ssl

    verify = ssl.create_default_context(cafile=ca_file) if ca_file else True
    limits = module.Limits(max_connections=200, max_keepalive_connections=200)
    client = module.AsyncClient(
        headers={"authorization": f"Bearer {KEY}"}, verify=verify, http2=http2, limits=limits, timeout=60
    )

    async def post():
        return (await client.post(url, json=BODY)).json()

    async def stream(method):
        async with client.stream(method, url, json=STREAM_BODY if method == "POST" else None) as answer:
            if parser is Standard:
                async for event in module.EventSource(answer):
                    if event.data != "[DONE]":
                        yield loads(event.data)
                return
            async for line in answer.aiter_lines():
                if line.startswith("data: ") and line != "data: [DONE]":
                    yield loads(line[6:])

    return post, stream, client.aclose


def async_httpx(url, ca_file, parser):
    import httpx

    return _async_httpx(httpx, url, ca_file, parser, bool(ca_file))


def async_httpx2(url, ca_file, parser):
    import httpx2

    return _async_httpx(httpx2, url, ca_file, parser, bool(ca_file))


def async_curl_cffi(url, ca_file, parser):
    import curl_cffi.requests

    client = curl_cffi.requests.AsyncSession(max_clients=200, verify=ca_file or True)
    client.headers["authorization"] = f"Bearer {KEY}"

    async def post():
        return (await client.post(url, json=BODY)).json()

    async def stream(method):
        body = STREAM_BODY if method == "POST" else None
        async with client.stream(method, url, json=body) as answer:
            async for line in answer.aiter_lines():
                if line.startswith(EVENT_START) and line != b"data: [DONE]":
                    yield loads(line[6:])

    return post, stream, client.close


def async_niquests(url, ca_file, parser):
    import niquests

    client = niquests.AsyncSession(pool_maxsize=200)
    client.headers["authorization"] = f"Bearer {KEY}"
    if ca_file:
        client.verify = ca_file

    async def post():
        return (await client.post(url, json=BODY)).json()

    return post, None, client.close


# ---- works


def work_post(name, url, count, in_flight, ca_file):
    make = globals()[f"sync_{name}"](url, ca_file)
    measure = Measure()
    each = count // in_flight
    warm = threading.Barrier(in_flight, measure.start)

    def one():
        call = make()
        for _ in range(each // 10 + 1):
            assert call()["object"]
        warm.wait()
        latency = measure.latency.append
        before = time.perf_counter()
        for _ in range(each):
            call()
            after = time.perf_counter()
            latency(after - before)
            before = after

    if in_flight == 1:  # on the thread that a program has
        one()
        return measure.stop(count)
    with ThreadPoolExecutor(in_flight) as threads:
        for done in [threads.submit(one) for _ in range(in_flight)]:
            done.result()
    return measure.stop(each * in_flight)


async def work_post64(name, url, count, in_flight, ca_file):
    post, _, close = globals()[f"async_{name}"](url, ca_file, None)
    measure = Measure()
    measure.latency = []

    async def one(calls):
        before = time.perf_counter()
        for _ in range(calls):
            assert (await post())["object"]
            after = time.perf_counter()
            measure.latency.append(after - before)
            before = after

    each = count // in_flight
    await asyncio.gather(*(one(each // 10 + 1) for _ in range(in_flight)))
    measure.start()
    await asyncio.gather(*(one(each) for _ in range(in_flight)))
    result = measure.stop(each * in_flight)
    await close()
    return result


async def work_sse(name, url, count, in_flight, ca_file):
    name, _, standard = name.partition("+")
    parser = Standard if standard else Split
    _, stream, close = globals()[f"async_{name}"](url, ca_file, parser)
    seen = 0

    async def one(until):
        nonlocal seen
        while seen < until:
            async for event in stream("GET"):
                assert event["object"]
                seen += 1

    measure = Measure()
    await asyncio.gather(*(one(count // 10) for _ in range(in_flight)))
    seen = 0
    measure.start()
    await asyncio.gather(*(one(count) for _ in range(in_flight)))
    result = measure.stop(seen)
    await close()
    return result


async def work_text(name, url, count, in_flight, ca_file):
    global loads
    loads = read_text
    return await work_sse(name, url, count, in_flight, ca_file)


def read_text(data):
    """What an application without JSON would look at."""
    return {"object": data}


async def work_paced(name, url, count, in_flight, ca_file):
    name, _, standard = name.partition("+")
    parser = Standard if standard else Split
    _, stream, close = globals()[f"async_{name}"](url, ca_file, parser)
    seen = 0

    async def one():
        nonlocal seen
        async for event in stream("POST"):
            assert event["object"]
            seen += 1

    measure = Measure()
    tasks = [asyncio.ensure_future(one()) for _ in range(in_flight)]
    await asyncio.sleep(1.5)
    seen, threads = 0, threads_cpu()
    measure.start()
    await asyncio.sleep(count / 1000)
    result = measure.stop(seen)
    threads = {name: used - threads.get(name, 0) for name, used in threads_cpu().items()}
    result.update({f"{name}_thread_share": used / sum(threads.values()) for name, used in threads.items()})
    for task in tasks:
        assert not task.done(), task
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return result


class Delays:
    """Of each token how long it was on its way, and by how much the server was late; memory taken beforehand."""

    def __init__(self, count):
        self.delay, self.late = array("d", bytes(8 * count)), array("d", bytes(8 * count))
        self.count = 0

    def add(self, token, now):
        self.delay[self.count] = (now - token["at"]) / 1e3
        self.late[self.count] = token["late"]
        self.count += 1

    def result(self):
        delays, last = sorted(self.delay), self.count - 1
        shares = {"p50_us": 0.5, "p90_us": 0.9, "p99_us": 0.99, "max_us": 1}
        figures = {name: delays[int(share * last + 0.5)] for name, share in shares.items()}
        return {**figures, "server_late_p99_us": sorted(self.late)[int(0.99 * last + 0.5)]}


def resident_kb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 1024


async def work_tokens(name, url, count, in_flight, ca_file):
    import llmpool

    limits = llmpool.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    pool = llmpool.Pool(limits=limits, timeout=60, **({"ca_file": ca_file} if ca_file else {}))
    client = llmpool.AsyncClient(pool=pool)
    delays, clock, seen = Delays(count * in_flight), time.monotonic_ns, []
    before = resident_kb()

    async def one():
        number = 0
        async with client.stream("GET", url) as answer:
            async for event in answer.aiter_sse(stop="[DONE]"):
                now = clock()
                token = event.json()
                if token["n"] != number:
                    raise RuntimeError(f"token {token['n']} came where {number} was next")
                number += 1
                delays.add(token, now)
                if number == count // 2:
                    seen.append(resident_kb())
                elif delays.count == 1:
                    measure.start()
        if number != count:
            raise RuntimeError(f"{number} tokens came, not {count}")

    measure = Measure()
    await asyncio.gather(*(one() for _ in range(in_flight)))
    result = {**measure.stop(delays.count), **delays.result()}
    result.update(rss_kb=max(seen), stream_kb=(max(seen) - before) / in_flight, connections=pool.stats().opened)
    assert pool.stats().succeeded == in_flight and delays.count == count * in_flight, pool.stats()
    await client.aclose()
    return result


def async_llmpool_resumed(url, ca_file, parser):
    """Each call on a connection of its own, whose TLS session is that of one before."""
    import llmpool

    pool = llmpool.Pool(ca_file=ca_file, http2=False)
    client = llmpool.AsyncClient(headers={"authorization": f"Bearer {KEY}", "connection": "close"}, pool=pool)

    async def post():
        return (await client.post(url, json=BODY)).json()

    async def close():
        await client.aclose()
        now = pool.stats()
        assert now.tls_resumptions >= now.opened - 20, now  # the first 20 at once have nothing to resume

    return post, None, close


async def work_calls(name, url, count, in_flight, ca_file):
    name, _, warm = name.partition("+")
    if warm == "resumed":
        name, warm = "llmpool_resumed", ""
    clock = time.perf_counter
    fresh = []
    for _ in range(4):
        start = clock()
        post, _, close = globals()[f"async_{name}"](url, ca_file, None)
        await post()
        fresh.append(clock() - start)
        await close()
    used = cpu()
    post, _, close = globals()[f"async_{name}"](url, ca_file, None)
    if warm:
        warmed[-1].warm(url)
        await asyncio.sleep(0.5)
    start = clock()
    await asyncio.gather(*(post() for _ in range(in_flight)))
    once = clock() - start
    start = clock()
    for _ in range(count):
        await post()
    each = (clock() - start) / count
    used = cpu() - used
    await close()
    return {
        "cpu_us": used / (count + in_flight) * 1e6, "fresh_ms": sorted(fresh)[1] * 1e3, "each_ms": each * 1e3,
        "once_ms": once * 1e3,
    }  # fmt: skip


def work_import(name, url, count, in_flight, ca_file):
    wall, used = time.perf_counter(), cpu()
    if name == "llmpool":
        import llmpool

        imported = time.perf_counter()
        llmpool.Client(pool=llmpool.Pool())
    else:
        module = __import__(name)
        imported = time.perf_counter()
        module.Client()
    done = time.perf_counter()
    return {
        "cpu_us": (cpu() - used) * 1e6, "wall_us": (done - wall) * 1e6, "import_us": (imported - wall) * 1e6,
        "max_rss_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }  # fmt: skip


def run(work, *arguments):
    function = globals()[f"work_{work}"]
    if not asyncio.iscoroutinefunction(function):
        return function(*arguments)
    if arguments[0].endswith("+asyncio"):
        return asyncio.run(function(*arguments))
    import uvloop

    return uvloop.run(function(*arguments))


def main():
    name, work, url, count, in_flight, *rest = sys.argv[1:]
    if name.endswith("+orjson"):
        import llmpool
        import orjson

        global dumps, loads
        name = name.removesuffix("+orjson")
        dumps, loads = orjson.dumps, orjson.loads
        llmpool.use_json(dumps=dumps, loads=loads)
    result = run(work, name, url, int(count), int(in_flight), rest[0] if rest else None)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
