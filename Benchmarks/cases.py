"""What is measured. A case runs its clients in turn against one server, round after round.

In a command {name} stands for what its server says. A limit is a row of the 'Must hold' table: the ratio of the medians
of one figure of two clients, at most so much."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Optional

import servers

HERE = Path(__file__).resolve().parent
BUILD = servers.BUILD
PYTHON = [sys.executable, str(HERE / "python" / "client.py")]


@dataclass
class Limit:
    ours: str  # "*": the greatest of all clients
    peer: Optional[str]  # None: the bound is absolute
    at_most: Optional[float]  # None: told, and no bound
    what: str
    figure: str = "cpu_us"
    difference: bool = False  # ours minus the peer's instead of the ratio
    beside: Optional[float] = None  # at most, beside a busy loop


@dataclass
class Case:
    title: str
    server: Callable
    clients: Dict[str, List[str]]
    limits: List[Limit] = field(default_factory=list)
    rounds: int = 5
    whole: bool = False  # CPU of the whole process with its start, for peers that cannot say what a part took
    figure: str = "cpu_us"
    unit: str = "us of CPU per request"
    beside: bool = False  # measured beside a busy loop, too


def c_client(mode, url, requests, in_flight, connections, streams, *rest, body=2048):
    counts = [requests, in_flight, body, connections, streams]
    return [str(BUILD / "bench_llmpool"), mode, url, *map(str, counts), *rest]


def curl(mode, url, requests, in_flight, *rest):
    return [str(BUILD / "bench_curl"), mode, url, str(requests), str(in_flight), "2048", *rest]


def h2load(url, requests, clients, streams, *options, body="{root}/body"):
    headers = ["-H", "content-type: application/json", "-H", "authorization: Bearer 0123456789abcdef"]
    counts = ["-n", str(requests), "-c", str(clients), "-m", str(streams)]
    return ["h2load", *options, *counts, "-d", body, *headers, url]


def python(names, work, url, count, in_flight, *rest):
    return {name: [*PYTHON, name, work, url, str(count), str(in_flight), *rest] for name in names}


def paced_tokens(version, rate, seconds, *rest, streams=1000):
    """Readers of 1,000 streams of the token server: bare C, and ours on both loops."""
    tokens = rate * seconds
    path = f"/tokens?streams={streams}&tokens={tokens}&rate={rate}"
    ours = ["tokens", "{url}" + path, str(tokens), str(streams), *rest]
    return {
        f"bare C reader, {rate}/s": [str(BUILD / "read_tokens"), "{port}", path, str(streams), str(tokens), version],
        f"llmpool, uvloop, {rate}/s": [*PYTHON, "llmpool", *ours],
        f"llmpool, asyncio, {rate}/s": [*PYTHON, "llmpool+asyncio", *ours],
    }


def paced_limits(what):
    limits = []
    for loop in ("uvloop", "asyncio"):
        name = f"llmpool, {loop}, 20/s"
        limits += [
            Limit(name, "bare C reader, 20/s", 3000, f"{what}, {loop}: delay of a token (p99, us)", "p99_us", True),
            Limit(name, None, 64, f"{what}, {loop}: memory of a stream (KiB)", "stream_kb"),
        ]
    return limits


SWIFT = str(HERE.parent / ".build-bench" / "release" / "bench-swift")  # made by scripts/bench


def swift(work, url, count, tasks, ours, *rest):
    """Swift clients, their floor, and our C API at the same work."""
    names = ("llmpool", "async-http-client", "floor")
    return {name: [SWIFT, name, work, url, str(count), str(tasks), *rest] for name in names} | {"llmpool, C": ours}


def swift_limits(what, peer, ours=2.0):
    return [
        Limit("llmpool", "async-http-client", peer, what),
        Limit("llmpool", "llmpool, C", ours, "the same"),
    ]


LEAVING = {
    "sync": ("break", "exception", "close", "abandoned"),
    "async": ("break", "exception", "close", "abandoned", "cancelled", "timeout", "loop_closed"),
}


def fleet(*store):
    return [sys.executable, str(HERE / "python" / "fleet.py"), "{url}", "4", "50", "10", *store]


def leaving(count, *rest):
    command = [sys.executable, str(HERE / "python" / "leaving.py")]
    return {
        f"{kind}, {way.replace('_', ' ')}": [*command, f"{kind}.{way}", "{url}", str(count), *rest]
        for kind, ways in LEAVING.items()
        for way in ways
    }


def sdk_client(name, work, url, count, in_flight):
    return [sys.executable, str(HERE / "python" / "sdk.py"), name, work, url, str(count), str(in_flight)]


def sdk():
    """httpx2, requests and SDKs over their own transports and over others, work after work."""
    clients = {}
    for work, below, url, count, in_flight in (
        ("client", ("own", "llmpool", "aiohttp", "nothing"), "{url}", 3200, 64),
        ("lines", ("own", "llmpool", "aiohttp"), "{events100}", 3200, 64),
        ("transport", ("own", "llmpool", "aiohttp"), "{url}", 3200, 64),
        ("transport-get", ("own", "llmpool", "aiohttp"), "{events100}", 3200, 64),
        ("thread", ("own", "llmpool"), "{url}", 1200, 1),
        ("requests", ("own", "llmpool"), "{url}", 1200, 1),
        ("openai", ("own", "llmpool", "aiohttp"), "{base}/v1", 1600, 64),
        ("openai-stream", ("own", "llmpool"), "{base}/stream", 128, 32),
        ("openai-thread", ("own", "llmpool"), "{base}/v1", 600, 1),
        ("anthropic-thread", ("own", "llmpool"), "{base}", 600, 1),
        ("make", ("own", "llmpool"), "{url}", 20, 1),
        ("import", ("llmpool",), "{url}", 1, 1),
    ):
        for name in below:
            clients[f"{work}: {name}"] = sdk_client(name, work, url, count, in_flight)
    return clients


def sdk_limit(work, at_most, what, peer="own", figure="cpu_us"):
    return Limit(f"{work}: llmpool", f"{work}: {peer}", at_most, what, figure)


CASES = {
    "h2": Case(
        "POST over HTTP/2 and TLS from C, 64 at a time on one connection (nghttpd)",
        servers.nghttpd,
        {
            "llmpool": c_client("async", "{url}", 60000, 64, 1, 100, "{ca}"),
            "h2load": h2load("{url}", 66000, 1, 64),
            "libcurl multi": curl("multi", "{url}", 12000, 64, "{ca}"),
            "libcurl multi, poll": curl("poll", "{url}", 12000, 64, "{ca}"),
        },
        [
            Limit("llmpool", "h2load", 1.8, "h2+TLS POST, C async API, 64 in flight"),
            Limit("llmpool", "libcurl multi", 0.15, "the same"),
            Limit("llmpool", "libcurl multi, poll", 0.15, "the same, libcurl with curl_multi_poll()"),
        ],
        whole=True,
    ),
    "h2-small": Case(
        "Small calls, 60 bytes up and 400 down, over HTTP/2 and TLS from C, 64 at a time on one connection (nghttpd)",
        servers.nghttpd,
        {
            "llmpool": c_client("async", "{small_url}", 90000, 64, 1, 100, "{ca}", body=60),
            "h2load": h2load("{small_url}", 99000, 1, 64, body="{root}/body60"),
        },
        [Limit("llmpool", "h2load", 1.6, "h2+TLS POST of 60 bytes, C async API, 64 in flight", beside=1.8)],
        whole=True,
    ),
    "h1": Case(
        "POST over HTTP/1.1 from C, 64 connections (nginx)",
        servers.nginx,
        {
            "llmpool": c_client("async", "{url}", 60000, 64, 64, 1),
            "h2load": h2load("{url}", 66000, 64, 1, "--h1"),
            "wrk": ["wrk", "-t1", "-c64", "-d2", "-s", "{root}/post.lua", "{url}"],
            "libcurl multi": curl("multi", "{url}", 20000, 64),
            "libcurl multi, poll": curl("poll", "{url}", 20000, 64),
        },
        [
            Limit("llmpool", "h2load", 1.8, "h1 POST, C async API, 64 connections"),
            Limit("llmpool", "libcurl multi", 0.4, "the same"),
            Limit("llmpool", "libcurl multi, poll", 0.4, "the same, libcurl with curl_multi_poll()"),
        ],
        whole=True,
    ),
    "threads": Case(
        "POST over HTTP/1.1 from 64 blocking threads in C (nginx)",
        servers.nginx,
        {
            "llmpool": c_client("blocking", "{url}", 38400, 64, 64, 1),
            "libcurl easy": curl("easy", "{url}", 38400, 64),
        },
        [Limit("llmpool", "libcurl easy", 0.9, "h1 POST, blocking C API, 64 threads")],
    ),
    "python-sync": Case(
        "POST + json from Python, one thread, HTTP/1.1 (nginx)",
        servers.nginx,
        {
            **python(["llmpool", "llmpool+orjson", "pycurl", "floor", "floor+orjson"], "post", "{url}", 6000, 1),
            **python(["pyreqwest", "curl_cffi"], "post", "{url}", 3000, 1),
            **python(["httpx", "httpx2", "requests", "niquests"], "post", "{url}", 1200, 1),
        },
        [
            Limit("llmpool", "pycurl", 0.95, "POST + json, Python sync Client, 1 thread, h1", beside=0.95),
            Limit("llmpool", "floor", None, "the same"),
        ],
    ),
    "python-threads": Case(
        "POST + json from Python, 16 threads, HTTP/1.1 (nginx)",
        servers.nginx,
        python(["llmpool", "pycurl", "floor"], "post", "{url}", 9600, 16),
        [
            Limit("llmpool", "pycurl", 0.9, "POST + json, Python sync Client, 16 threads; pycurl with a handle each"),
            Limit("llmpool", "floor", None, "the same"),
        ],
    ),
    "python-one": Case(
        "POST + json from Python on uvloop, one call after another, HTTP/1.1 (nginx)",
        servers.nginx,
        python(["llmpool", "pyreqwest", "aiohttp", "floor"], "post64", "{url}", 4000, 1),
        [
            Limit("llmpool", "aiohttp", 0.4, "POST + json, AsyncClient on uvloop, one call after another"),
            Limit("llmpool", "floor", None, "the same"),
        ],
    ),
    "python-async": Case(
        "POST + json from Python on uvloop, 64 at a time, HTTP/1.1 (nginx)",
        servers.nginx,
        {
            **python(["llmpool", "llmpool+orjson", "floor", "floor+orjson"], "post64", "{url}", 9600, 64),
            **python(["pyreqwest", "aiohttp"], "post64", "{url}", 9600, 64),
            **python(["curl_cffi"], "post64", "{url}", 3200, 64),
            **python(["httpx2", "httpx", "niquests"], "post64", "{url}", 1280, 64),
        },
        [
            Limit("llmpool", "pyreqwest", None, "POST + json, AsyncClient on uvloop, h1, 64 at a time"),
            Limit("llmpool+orjson", "pyreqwest", 0.45, "the same, both with JSON in Rust"),
            Limit("llmpool+orjson", "floor+orjson", 1.25, "the same"),
            Limit("llmpool+orjson", "pyreqwest", 1.0, "the same, p50 of a call", "p50_us", beside=1.0),
            Limit("llmpool+orjson", "pyreqwest", 1.0, "the same, p99 of a call", "p99_us", beside=1.0),
        ],
    ),
    "python-async-h2": Case(
        "POST + json from Python on uvloop, 64 at a time, HTTP/2 and TLS (nghttpd)",
        servers.nghttpd,
        {
            **python(["llmpool", "llmpool+orjson", "floor+orjson", "pyreqwest"], "post64", "{url}", 9600, 64, "{ca}"),
            **python(["curl_cffi"], "post64", "{url}", 3200, 64, "{ca}"),
            **python(["httpx2"], "post64", "{url}", 1280, 64, "{ca}"),
        },
        [
            Limit("llmpool+orjson", "pyreqwest", 0.45, "the same over h2+TLS"),
            Limit("llmpool+orjson", "floor+orjson", None, "the same"),
            Limit("llmpool", "httpx2", 0.05, "the same, JSON in Python"),
        ],
    ),
    "sse": Case(
        "Server-sent events and json.loads in Python on uvloop, 32 streams as fast as they come (nginx)",
        servers.nginx,
        {
            **python(["llmpool", "pyreqwest", "aiohttp", "floor"], "sse", "{events}", 192000, 32),
            **python(["pyreqwest+parser", "aiohttp+parser", "httpx2+parser"], "sse", "{events}", 128000, 32),
        },
        [
            Limit("llmpool", "pyreqwest+parser", None, "SSE events + json.loads, 32 streams as fast as they come"),
            Limit("llmpool", "floor", None, "the same, beside json.loads alone"),
        ],
        unit="us of CPU per event",
    ),
    "sse-text": Case(
        "The same without json.loads (nginx)",
        servers.nginx,
        python(
            ["llmpool", "pyreqwest", "pyreqwest+parser", "aiohttp", "aiohttp+parser", "floor"],
            "text", "{events}", 384000, 32,
        ),  # fmt: skip
        [
            Limit("llmpool", "pyreqwest+parser", 0.5, "SSE events, 32 streams as fast as they come"),
            Limit("llmpool", "floor", None, "the same, beside an empty source"),
        ],
        unit="us of CPU per event",
    ),
    "sse-paced": Case(
        "The same, 100 streams of 50 tokens a second (granian)",
        lambda: servers.mock(50, 400),
        python(
            ["llmpool", "pyreqwest", "pyreqwest+parser", "aiohttp", "aiohttp+parser", "httpx2+parser", "floor"],
            "paced", "{url}", 3000, 100,
        ),  # fmt: skip
        [
            Limit("llmpool", "aiohttp", 0.5, "the same, 100 streams of 50 tokens a second each"),
            Limit("llmpool", "aiohttp+parser", 0.5, "the same"),
            Limit("llmpool", "floor", None, "the same, beside an empty source"),
        ],
        rounds=3,
        unit="us of CPU per event",
    ),
    "latency": Case(
        "One call after another over HTTP/2 and TLS from C (nghttpd)",
        servers.nghttpd,
        {
            "llmpool perform": c_client("blocking", "{url}", 4000, 1, 1, 100, "{ca}"),
            "llmpool submit+drain": c_client("async", "{url}", 4000, 1, 1, 100, "{ca}"),
            "bare nghttp2": [str(BUILD / "bench_nghttp2"), "127.0.0.1", "{port}", "/post", "4000", "2048"],
            "libcurl easy": curl("easy", "{url}", 4000, 1, "{ca}"),
        },
        [Limit("llmpool perform", "bare nghttp2", 40, "added latency of a unary h2 call (p50, us)", "p50_us", True)],
        rounds=11,  # who else runs on the two cores shows here first: the median needs them
        figure="p50_us",
        unit="us to the answer, p50",
    ),
    "scale": Case(
        "CPU per request against the number in flight, HTTP/2 in clear, 100 streams a connection (nghttpd)",
        lambda: servers.nghttpd(tls=False),
        {
            f"{count} in flight": c_client("async", "{url}", max(30000, 4 * count), count, max(1, count // 100), 100)
            for count in (1, 10, 100, 1000, 10000)
        }
        | {
            f"h2load, {count}": h2load("{plain_url}", 4 * max(count, 10000), count // 100, 100)
            for count in (100, 1000, 10000)
        },
        [
            Limit("10000 in flight", "100 in flight", 1.3, "CPU per request at 10,000 in flight against 100"),
            Limit("h2load, 10000", "h2load, 100", 1.3, "(h2load, for comparison)"),
        ],
    ),
    "scale-one": Case(
        "The same on one connection that allows 10,000 streams (nghttpd)",
        lambda: servers.nghttpd(10000, tls=False),
        {
            f"{count} in flight": c_client("async", "{url}", max(30000, 4 * count), count, 1, 10000)
            for count in (100, 1000, 10000)
        },
        [Limit("10000 in flight", "100 in flight", 1.3, "the same on one connection")],
    ),
    "scale-waiting": Case(
        "The same where 100 streams are allowed and the rest waits in the pool (nghttpd)",
        lambda: servers.nghttpd(tls=False),
        {
            f"{count} in flight": c_client("async", "{url}", max(30000, 4 * count), count, 1, 100)
            for count in (100, 1000, 10000)
        },
        [Limit("10000 in flight", "100 in flight", 1.3, "the same, 9,900 of them waiting in the pool")],
    ),
    "scale-connections": Case(
        "CPU per request against the number of open connections, HTTP/1.1, 100 in flight (nginx)",
        servers.nginx,
        {f"{count} connections": c_client("idle", "{url}", 0, count, count, 1) for count in (100, 1000, 5000)},
    ),
    "scale-origins": Case(
        "CPU per request against the number of origins, HTTP/1.1, 64 in flight (nginx)",
        lambda: servers.nginx(1000),
        {f"{count} origins": c_client("origins", "{url}", 30000, 64, 2000, count) for count in (1, 10, 100, 1000)},
    ),
    "streams": Case(
        "10,000 open event streams, one event a second each, HTTP/2 in clear, from C",
        lambda: servers.stream_server(1000),
        {
            "10000 streams": c_client("streams", "{url}", 3000, 10000, 100, 100, body=64),
            "100 streams": c_client("streams", "{url}", 3000, 100, 1, 100, body=64),
        },
        [Limit("10000 streams", None, 150 * 1024, "10,000 open streams: resident memory (KiB)", "rss_kb")],
        rounds=3,
        figure="rss_kb",
        unit="KiB resident",
    ),
    "streams-delay": Case(
        "1,000 streams of 20 tokens a second in one loop for 30 s, HTTP/2 and TLS (granian)",
        servers.token_server,
        paced_tokens("h2", 20, 30, "{ca}") | paced_tokens("h2", 10, 15, "{ca}"),
        paced_limits("1,000 paced streams, h2"),
        rounds=3,
        figure="p99_us",
        unit="us from the server's stamp to the reader, p99",
    ),
    "streams-delay-proxy": Case(
        "The same over HTTP/1.1 and nginx as a proxy (granian)",
        servers.proxied_token_server,
        paced_tokens("h1", 20, 30) | paced_tokens("h1", 10, 15),
        paced_limits("the same over nginx, h1"),
        rounds=3,
        figure="p99_us",
        unit="us from the server's stamp to the reader, p99",
    ),
    "swift": Case(
        "POST from Swift, 64 tasks, HTTP/1.1 (nginx)",
        servers.nginx,
        swift("post", "{url}", 19200, 64, c_client("async", "{url}", 19200, 64, 64, 1)),
        swift_limits("Pool.send from Swift, h1, 64 tasks", 0.25),
    ),
    "swift-h2": Case(
        "The same over HTTP/2 and TLS (nghttpd)",
        servers.nghttpd,
        swift("post", "{url}", 19200, 64, c_client("async", "{url}", 19200, 64, 1, 100, "{ca}"), "{ca}"),
        swift_limits("the same over h2+TLS", 0.25),
    ),
    "swift-events": Case(
        "Events in Swift, 32 streams as fast as they come (nginx)",
        servers.nginx,
        swift("events", "{events}", 384000, 32, c_client("events", "{events}", 384000, 32, 32, 1, body=0)),
        swift_limits("Pool.events from Swift, 32 streams as fast as they come, per event", 0.3),
        unit="us of CPU per event",
    ),
    "first-data": Case(
        "Timings.first_data against the stamp of the server on the first token, HTTP/2 and TLS (granian)",
        servers.token_server,
        {
            name: [sys.executable, str(HERE / "python" / "first_data.py"), "{url}", str(rounds), str(streams), "{ca}"]
            for name, rounds, streams in (("one stream", 40, 1), ("16 streams", 20, 16))
        },
        [
            Limit("*", None, 2000, "first_data beside the server's stamp on the first token (p50, us)", "p50_us"),
            Limit("*", None, 5000, "the same (p99, us)", "p99_us"),
        ],
        rounds=3,
        figure="p99_us",
        unit="us between the server's stamp and first_data, p99",
    ),
    "fleet": Case(
        "A request in four processes, 50 a second in each, under a budget that they share through Redis (nginx)",
        servers.nginx_and_store,
        {"a budget of its own": fleet(), "shared through Redis": fleet("{store}")},
        [
            Limit("shared through Redis", "a budget of its own", 1.1, "a call under a shared budget (p99)", "p99_us"),
            Limit("shared through Redis", "a budget of its own", None, "the same (p50)", "p50_us"),
        ],
        figure="p99_us",
        unit="us of a request, p99",
    ),
    "leaving": Case(
        "How soon the server sees that a stream was left, HTTP/2 and TLS: RST_STREAM (granian)",
        servers.token_server,
        leaving(30, "{ca}"),
        [Limit("*", None, 100000, "server sees each way to leave a stream, h2 (p99, us)", "p99_us")],
        rounds=3,
        figure="p99_us",
        unit="us until the server saw it, p99",
    ),
    "leaving-h1": Case(
        "The same over HTTP/1.1: the connection's end (granian)",
        lambda: servers.token_server(tls=False),
        leaving(30),
        [Limit("*", None, 100000, "the same, h1", "p99_us")],
        rounds=3,
        figure="p99_us",
        unit="us until the server saw it, p99",
    ),
    "idle": Case(
        "Memory and cost of open connections, from C (nginx)",
        servers.nginx,
        {
            "HTTP/1.1, 1000 connections": c_client("idle", "{url}", 0, 1000, 1000, 1),
            "TLS, 1000 connections": c_client("idle", "{tls_url}", 0, 1000, 1000, 100, "{ca}"),
        },
        rounds=2,
        figure="rss_open_kb",
        unit="KiB resident",
    ),
    "far": Case(
        "Name, TCP, TLS and a POST to a server 25 ms away each way (nginx behind a delay proxy)",
        servers.far_nginx,
        python(
            ["llmpool", "llmpool+warm", "llmpool+resumed", "pyreqwest", "aiohttp", "httpx2", "curl_cffi"],
            "calls", "{url}", 20, 20, "{ca}",
        ),  # fmt: skip
        rounds=3,
        figure="once_ms",
        unit="ms for the first 20 calls, made at once",
    ),
    "sdk": Case(
        "httpx2, requests and SDKs over their own transports, llmpool's and aiohttp's (nginx, HTTP/1.1)",
        servers.nginx,
        sdk(),
        [
            sdk_limit("client", 0.25, "httpx2.AsyncClient, POST + json, h1, 64 at a time"),
            sdk_limit("client", 1.4, "the same, beside a transport that costs nothing", "nothing"),
            sdk_limit("lines", 0.4, "httpx2.AsyncClient streamed, aiter_lines, per line"),
            sdk_limit("make", 0.05, "making a client, wall-clock", figure="wall_us"),
            Limit("import: llmpool", None, 3000, "import llmpool.httpx2 beside llmpool and httpx2, CPU (us)", "cpu_us"),
            sdk_limit("transport", 0.25, "the transport alone, async POST"),
            sdk_limit("transport", 0.6, "the same", "aiohttp"),
            sdk_limit("transport-get", 0.25, "the transport alone, async stream of 100 events"),
            sdk_limit("transport-get", 0.5, "the same", "aiohttp"),
            sdk_limit("requests", 0.5, "requests, one thread, POST + json"),
            sdk_limit("openai", 0.55, "AsyncOpenAI, chat, whole answers, 64 at a time"),
            sdk_limit("openai", 0.9, "the same", "aiohttp"),
            sdk_limit("openai-stream", 0.8, "AsyncOpenAI, chat streamed as fast as it comes, per chunk"),
            sdk_limit("openai-thread", 0.75, "OpenAI, chat, one thread"),
            sdk_limit("anthropic-thread", 0.65, "Anthropic, message, one thread"),
        ],
        rounds=3,
    ),
    "sdk-paced": Case(
        "AsyncOpenAI, 32 streams of 50 tokens a second, over its own transport and over llmpool's (granian)",
        lambda: servers.mock(50, 100),
        {
            f"openai-stream: {name}": sdk_client(name, "openai-stream", "{base}", 128, 32)
            for name in ("own", "llmpool")
        },
        [sdk_limit("openai-stream", 0.8, "AsyncOpenAI, chat streamed at 50 tokens a second, per chunk")],
        rounds=3,
        unit="us of CPU per chunk",
    ),
    "import": Case(
        "Import and first client, cold",
        servers.nginx,
        python(["llmpool", "httpx2", "httpx", "requests"], "import", "{url}", 1, 1),
        [
            Limit("llmpool", "httpx2", 0.3, "import llmpool and first pool, CPU"),
            Limit("llmpool", "httpx2", 0.3, "import llmpool and first pool, wall-clock", "wall_us"),
        ],
        rounds=7,
        unit="us of CPU",
    ),
}
for _name in CASES:
    CASES[_name].beside = _name.startswith(("python", "sse")) or _name == "h2-small"
CASES["import"].clients.pop("requests")  # has no Client(); kept out rather than compared unequally
