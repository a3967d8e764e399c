"""The spans of our own: one for each attempt, with what the pool tells of it."""

import asyncio
import gc
import socket
import threading
import time
from types import SimpleNamespace

import pytest
import servers

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import baggage, context, propagate, trace
from opentelemetry.trace import SpanKind, StatusCode
from telemetry import body, event, events, span_id, traceparents

import llmpool
import llmpool.otel
from llmpool._native import tracing
from llmpool._otel import trace as trace_module
from llmpool._otel.attempts import earlier, error_type, status_of
from llmpool._otel.notices import Retry
from llmpool._otel.target import target_of

CHAT = "/chat/completions"


def seconds(span):
    return (span.end_time - span.start_time) / 1e9


# ---- what a span has


def test_a_whole_answer(traced, caller, quick):
    before = time.time_ns()
    answer = caller.post(CHAT, json=body(), params={"key": "a-secret", "flag": ""})
    after = time.time_ns()
    span = traced.span()
    assert span.name == "POST" and span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET and span.parent is None
    port = int(quick.url.rpartition(":")[2])
    told = dict(span.attributes)
    assert told.pop("llmpool.connection.id") == answer.connection_id
    assert told.pop("llmpool.connection.reused") is answer.reused
    assert told.pop("llmpool.request_id") == answer.request_id
    assert told == {
        "http.request.method": "POST", "server.address": "127.0.0.1", "server.port": port,
        "url.full": f"http://127.0.0.1:{port}/v1{CHAT}?key=REDACTED&flag=REDACTED",
        "http.response.status_code": 200, "network.protocol.version": "1.1",
        "network.peer.address": "127.0.0.1", "network.peer.port": port,
    }  # fmt: skip
    assert events(span) == ["queued", "connected", "admitted", "sent", "first_byte"]
    # Nothing but what the pool says, on the clock of the caller.
    assert before <= span.start_time <= after and seconds(span) == pytest.approx(
        answer.elapsed.total_seconds(), abs=1e-6
    )
    for name in ("admitted", "connected", "sent", "first_byte"):
        told_at = getattr(answer.timings, name)
        assert event(span, name).timestamp - span.start_time == pytest.approx(
            told_at * 1e9, abs=1e3
        )


def test_a_stream(traced, caller):
    assert len(caller.stream(CHAT, json=body(stream=True))) > 3
    span = traced.span()
    assert span.attributes["http.response.status_code"] == 200
    assert events(span)[-2:] == ["first_byte", "first_token"]
    assert event(span, "first_token").timestamp <= span.end_time


def test_the_version_is_that_of_the_connection(traced, mock, open_client):
    client = open_client(mock.url + "/v1", headers=mock.headers, ca_file=mock.ca_file)
    client.post(CHAT, json=body(max_tokens=1))
    assert traced.span().attributes["network.protocol.version"] == "2"


def test_a_stream_that_is_left(traced, caller):
    caller.stream(CHAT, leave=True, json=body("stall-1", stream=True))
    span = traced.span()
    assert span.attributes["llmpool.cancelled"] is True and "error.type" not in span.attributes
    assert span.attributes["http.response.status_code"] == 200
    assert span.status.status_code is StatusCode.UNSET


def test_a_stream_that_is_dropped_ends_with_the_next_request(traced, client):
    stream = client.stream("POST", CHAT, json=body("stall-1", stream=True))
    response = stream.__enter__()
    with pytest.warns(ResourceWarning):
        del response, stream
        gc.collect()
    dropped = time.time_ns()
    assert traced.spans() == []
    client.post(CHAT, json=body())
    first = traced.spans()[0]
    assert first.attributes["llmpool.cancelled"] is True and first.end_time <= dropped


def test_a_task_that_is_cancelled(traced, client):
    async def main():
        async with llmpool.AsyncClient(
            base_url=client.base_url, headers=client.headers, pool=client.pool
        ) as other:
            task = asyncio.ensure_future(other.post(CHAT, json=body("slow-60")))
            while not client.pool.stats().active:
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait((task,))
            assert task.cancelled()

    asyncio.run(main())
    span = traced.span()
    assert span.attributes["llmpool.cancelled"] is True
    assert span.status.status_code is StatusCode.UNSET


def test_an_upload(traced, client):
    answer = client.post(CHAT, content=iter([b'{"model": "any", ', b'"messages": []}']))
    span = traced.span()
    assert span.attributes["http.response.status_code"] == answer.status_code


def test_a_method_that_nobody_knows(traced, client):
    client.request("BREW", "/models")
    span = traced.span()
    assert span.name == "HTTP" and span.attributes["http.request.method"] == "_OTHER"
    assert span.attributes["http.request.method_original"] == "BREW"


def test_no_secret_is_shown(traced, heads, open_client):
    client = open_client(headers={"authorization": "Bearer sk-very-secret-0123456789"})
    client.post(heads.url + "/x?sig=a-secret", content=b'{"x": "c-secret"}')
    span = traced.span()
    text = span.to_json() + str(
        [point for _, point in traced.points("http.client.request.duration")]
    )
    for secret in ("very-secret", "a-secret", "c-secret"):
        assert secret not in text
    shown = target_of(b"https://user:pass-word@h:1/x?b-secret#token=d-secret").shown
    assert shown == "https://REDACTED@h:1/x?REDACTED#token=REDACTED"


# ---- what goes wrong


@pytest.mark.parametrize("status", [400, 500])
def test_an_answer_that_is_an_error(traced, caller, status):
    assert caller.post(CHAT, json=body(f"error-{status}")).status_code == status
    span = traced.span()
    assert span.attributes["http.response.status_code"] == status
    assert span.attributes["error.type"] == str(status)
    assert span.status.status_code is StatusCode.ERROR and span.status.description is None


def test_no_connection(traced, caller):
    url = f"http://127.0.0.1:{servers.free_port()}/x?key=a-secret"
    with pytest.raises(llmpool.ConnectError):
        caller.post(url, retry=False)
    span = traced.span()
    assert span.attributes["error.type"] == "llmpool.ConnectError"
    assert span.status.status_code is StatusCode.ERROR and "refused" in span.status.description
    assert "http.response.status_code" not in span.attributes and events(span) == ["queued"]


def test_a_stream_that_breaks(traced, caller):
    with pytest.raises(llmpool.TransportError) as caught:
        caller.stream(CHAT, json=body("cut-2", stream=True))
    span = traced.span()
    assert span.attributes["error.type"] == f"llmpool.{type(caught.value).__name__}"
    assert span.attributes["http.response.status_code"] == 200
    assert span.status.status_code is StatusCode.ERROR


def test_what_the_library_refuses(traced, caller):
    with pytest.raises(llmpool.LocalProtocolError):
        caller.post(CHAT, headers={"content-length": "7"}, content=b"x")
    span = traced.span()
    assert span.attributes["error.type"] == "llmpool.LocalProtocolError"


def test_an_upload_that_fails_here(traced, caller):
    def pieces():
        yield b"x"
        raise KeyError("of the caller's")

    with pytest.raises(KeyError):
        caller.post(CHAT, content=pieces())
    span = traced.span()
    assert (
        span.attributes["error.type"] == "KeyError" and "llmpool.cancelled" not in span.attributes
    )


# ---- silence


def test_a_stall_that_ends_the_stream(traced, caller):
    with pytest.raises(llmpool.ReadTimeout):
        caller.stream(CHAT, json=body("stall-2", stream=True), timeout=llmpool.Timeout(read=1))
    span = traced.span()
    stall = event(span, "stall")
    assert stall.attributes["error.type"] == "llmpool.ReadTimeout"
    assert stall.timestamp == span.end_time


def test_a_stall_that_goes_by(seen, caller):
    llmpool.otel.instrument(
        tracer_provider=seen.tracers, meter_provider=seen.meters, stall_after=0.3
    )
    caller.stream(CHAT, json=body("lasts-2", stream=True))
    span = seen.span()
    stalls = [each for each in span.events if each.name == "llmpool.stall"]
    assert stalls and all(each.attributes["llmpool.stall.seconds"] >= 0.3 for each in stalls)
    assert span.start_time <= stalls[0].timestamp <= span.end_time


def test_who_is_slow_himself_sees_no_stall(traced, client, monkeypatch):
    clock = SimpleNamespace(time_ns=time.time_ns, monotonic_ns=lambda: clock.now, now=1)
    monkeypatch.setattr(trace_module, "time", clock)
    with client.stream("POST", CHAT, json=body(stream=True)) as response:
        for _ in response.iter_sse(stop="[DONE]"):
            clock.now += 60_000_000_000
    assert clock.now > 60_000_000_000 and "stall" not in events(traced.span())


# ---- several attempts


def test_each_attempt_has_a_span(traced, caller):
    answer = caller.post(CHAT, json=body(f"flaky-2-503-{caller.is_async}"), retry="status")
    assert (answer.status_code, answer.attempts) == (200, 3)
    first, second, last = spans = traced.spans()
    assert [span.attributes.get("http.request.resend_count") for span in spans] == [None, 1, 2]
    assert [span.attributes["http.response.status_code"] for span in spans] == [503, 503, 200]
    for span in (first, second):
        assert span.attributes["error.type"] == "503"
        assert "llmpool.attempt.times" not in span.attributes
        assert span.status.status_code is StatusCode.ERROR
    # One after the other.
    for one, next_one in ((first, second), (second, last)):
        assert one.start_time <= one.end_time <= next_one.start_time
    assert last.end_time - first.start_time == pytest.approx(
        answer.elapsed.total_seconds() * 1e9, abs=1e3
    )
    assert event(last, "admitted").timestamp >= last.start_time
    # The servers' spans are below the first.
    assert [link.context.span_id for link in last.links] == [first.context.span_id]


def test_attempts_of_many_are_told_apart(traced, quick, open_client, at_once):
    """Each notice says whose it is."""
    client = open_client(quick.url + "/v1", headers=quick.headers)
    answers = at_once(
        lambda number: client.post(CHAT, json=body(f"flaky-1-503-{number}x"), retry="status"), 8, 8
    )
    spans = traced.spans()
    assert len(spans) == sum(answer.attempts for answer in answers) == 16
    for span in spans:
        assert span.start_time <= span.end_time
        assert "llmpool.attempt.times" not in span.attributes
    resent = [span.attributes.get("http.request.resend_count", 0) for span in spans]
    assert sorted(resent) == [0] * 8 + [1] * 8


def test_each_attempt_has_the_id_of_its_answer(traced, open_client):
    def handle(connection, _):
        rest = b""
        for status, name in ((b"503 X", b"x-request-id: one"), (b"200 OK", b"request-id: two")):
            _, _, rest = servers.read_request(connection, rest)
            servers.answer(connection, b"", name + b"\r\n", status)

    with servers.RawServer(handle) as server:
        assert open_client(server.url).get("/", retry="status").request_id == "two"
    first, last = traced.spans()
    assert [span.attributes["llmpool.request_id"] for span in (first, last)] == ["one", "two"]
    assert events(first) == ["queued", "connected", "admitted", "sent", "first_byte"]
    assert first.attributes["llmpool.connection.reused"] is False
    assert last.attributes["llmpool.connection.reused"] is True


def test_an_id_that_looks_like_a_key_is_hidden_on_each_attempt(traced, open_client):
    def handle(connection, _):
        rest = b""
        for status in (b"503 X", b"200 OK"):
            _, _, rest = servers.read_request(connection, rest)
            servers.answer(connection, b"", b"x-request-id: sk-proj-Abcdef0123456789\r\n", status)

    with servers.RawServer(handle) as server:
        open_client(server.url).get("/", retry="status")
    assert [span.attributes["llmpool.request_id"] for span in traced.spans()] == ["[secure]"] * 2


def test_a_dial_that_fails_says_nothing_of_the_attempt_before(traced, open_client):
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    client = open_client(f"http://127.0.0.1:{port}", retry_backoff=0.1, max_retries=100)

    def serve(listener, headers, status):
        connection, _ = listener.accept()
        servers.read_request(connection)
        listener.close()
        servers.answer(connection, b"", headers, status)
        connection.close()

    def run():
        serve(listener, b"connection: close\r\nx-request-id: one\r\n", b"503 X")
        assert servers.wait_until(lambda: client.pool.stats().connect_failures)
        serve(socket.create_server(("127.0.0.1", port)), b"x-request-id: two\r\n", b"200 OK")

    thread = threading.Thread(target=run)
    thread.start()
    client.get("/", retry="status")
    thread.join()
    first, last = traced.spans()
    assert [span.attributes["llmpool.request_id"] for span in (first, last)] == ["one", "two"]
    assert first.attributes["error.type"] == "503"


def test_a_hedge(traced, open_client):
    begun = threading.Event()

    def handle(connection, number):
        servers.read_request(connection)
        if number == 1:  # silent until the other one has its answer
            begun.wait(20)
            return
        servers.answer(connection)
        begun.set()

    with servers.RawServer(handle) as server:
        answer = open_client(server.url, hedge_percent=100).get(
            "/", retry=llmpool.Retry(sent=True, hedge_after=0.05)
        )
    assert answer.attempts == 2
    loser, winner = sorted(
        traced.spans(), key=lambda s: s.attributes.get("http.request.resend_count", 0)
    )
    assert winner.attributes["http.request.resend_count"] == 1
    assert "error.type" not in loser.attributes and loser.status.status_code is StatusCode.UNSET
    assert loser.attributes["llmpool.attempt.times"] == "bounds"


def test_redirects_are_counted(traced, open_client):
    def handle(connection, _):
        rest = b""
        while True:
            head, _, rest = servers.read_request(connection, rest)
            if b" /there" in head:
                servers.answer(connection)
            else:
                servers.answer(connection, b"", b"location: /there\r\n", b"302 Found")

    with servers.RawServer(handle) as server:
        client = open_client(server.url)
        assert client.get("/", follow_redirects=True).status_code == 200
    first, second = traced.spans()
    assert first.attributes["http.response.status_code"] == 302
    assert second.attributes["http.request.resend_count"] == 1


def test_the_tries_of_an_sdk_are_counted(traced, client):
    client.post(CHAT, json=body(), headers={"x-stainless-retry-count": "2"})
    assert traced.span().attributes["http.request.resend_count"] == 2


def test_what_notices_say():
    second = 1_000_000_000

    def retry(attempt, done, delay=0.0):
        return Retry(attempt, llmpool.Timings(done=done), "status 503", delay, "", {})

    first, last = retry(1, 2.0, 0.5), retry(3, 5.0, 1.0)
    # Of the second nothing was told.
    found, start = earlier(3, second, 9 * second, [first, last])
    assert found == [
        (second, 3 * second, first),
        (3.5 * second, 9 * second, None),
        (3.5 * second, 6 * second, last),
    ]
    assert start == 7 * second
    assert earlier(1, 1, 9, []) == ([(1, 9, None)], 1)
    # The rest of an answer took longer than the delay: the last began with its connection.
    assert earlier(1, 0, second, [retry(1, 0.5, 4.0)])[1] == second
    assert (status_of("status 429"), status_of("read"), status_of("another status")) == (429, 0, 0)
    assert error_type("read-timeout") == "llmpool.ReadTimeout" and error_type("?") == "_OTHER"


# ---- the trace and the server


def test_the_trace_goes_to_the_server(traced, heads, open_client):
    with traced.tracer().start_as_current_span("above") as above:
        open_client(heads.url).get("/")
    span = traced.span()
    assert span.parent.span_id == above.context.span_id
    assert traceparents(heads.heads[0]) == [span_id(span)]


def test_a_traceparent_is_left_alone(traced, heads, open_client):
    given = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    open_client(heads.url).get("/", headers={"TraceParent": given})
    assert traceparents(heads.heads[0]) == [b"b" * 16]
    assert b"tracestate" not in heads.heads[0].lower() and len(traced.spans()) == 1


def test_what_the_propagator_says_is_sent(traced, heads, open_client):
    token = context.attach(baggage.set_baggage("user", "a b"))
    try:
        open_client(heads.url).get("/", headers={"x": "y"})
    finally:
        context.detach(token)
    assert b"\r\nbaggage: user=a+b\r\n" in heads.heads[0] + b"\r\n"
    assert b"\r\nx: y\r\n" in heads.heads[0] + b"\r\n"


def test_a_header_that_cannot_be_sent_is_left_out(traced, heads, open_client, monkeypatch):
    class Careless:
        fields = frozenset(("a", "b c", "d"))

        def inject(self, carrier, context=None, setter=None):
            carrier.update({"a": "x\r\nevil: 1", "b c": "x", "d": "fine"})

    monkeypatch.setattr(propagate, "get_global_textmap", Careless)
    monkeypatch.setattr(propagate, "propagator", Careless(), raising=False)
    monkeypatch.setattr(
        propagate, "inject", lambda carrier, context=None: Careless().inject(carrier)
    )
    assert open_client(heads.url).get("/").status_code == 200
    assert b"evil" not in heads.heads[0] and b"\r\nd: fine" in heads.heads[0]


def test_the_request_is_shown_as_it_was_made(traced, heads, open_client):
    answer = open_client(heads.url).get("/", headers={"a": "b"})
    assert "traceparent" not in answer.request.headers and answer.request.headers["a"] == "b"


# ---- on and off


def test_nothing_is_traced_without_it(seen, client):
    assert tracing.begin is None
    client.post(CHAT, json=body())
    llmpool.otel.instrument(tracer_provider=seen.tracers)
    llmpool.otel.instrument(tracer_provider=seen.tracers)
    client.post(CHAT, json=body())
    assert len(seen.spans()) == 1
    llmpool.otel.uninstrument()
    llmpool.otel.uninstrument()
    assert tracing.begin is None
    client.post(CHAT, json=body())
    assert len(seen.spans()) == 1


def test_what_is_in_flight_is_traced_to_its_end(traced, client):
    with client.stream("POST", CHAT, json=body(stream=True)) as response:
        llmpool.otel.uninstrument()
        list(response.iter_sse(stop="[DONE]"))
    assert traced.span().attributes["http.response.status_code"] == 200


def test_a_second_call_changes_how(traced, client):
    from telemetry import Seen

    other = Seen()
    llmpool.otel.instrument(tracer_provider=other.tracers)
    client.post(CHAT, json=body())
    assert traced.spans() == [] and len(other.spans()) == 1


def test_the_global_provider_may_come_later(run_python, heads):
    script = """
import sys, llmpool, llmpool.otel
llmpool.otel.instrument()
llmpool.get(sys.argv[1])
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
llmpool.get(sys.argv[1])
(span,) = spans.get_finished_spans()
assert span.attributes["http.response.status_code"] == 200
"""
    done = run_python(script, heads.url)
    assert done.returncode == 0, done.stderr
    first, second = heads.heads
    assert traceparents(first) == [] and len(traceparents(second)) == 1


def test_in_a_forked_child(run_python, quick):
    script = """
import os, sys, llmpool, llmpool.otel
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
llmpool.otel.instrument(tracer_provider=provider)
url, headers = sys.argv[1], {"authorization": "Bearer mock-key"}
def call(name):
    body = {"model": name, "messages": []}
    return llmpool.post(url, json=body, headers=headers, retry="status").attempts
assert call("flaky-1-503-parent") == 2
messages = [{"role": "user", "content": "hi"}]
body = {"model": "stall-1", "stream": True, "messages": messages}
stream = llmpool.stream("POST", url, json=body, headers=headers)
response = stream.__enter__()
child = os.fork()
if child == 0:
    spans.clear()
    del stream, response  # whose span is the parent's
    assert call("flaky-1-503-child") == 2
    times = [span.attributes.get("llmpool.attempt.times") for span in spans.get_finished_spans()]
    assert times == [None, None], times
    ids = [span.attributes["llmpool.request_id"] for span in spans.get_finished_spans()]
    assert len(set(ids)) == 2, ids
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
spans.clear()
response.close()
(span,) = spans.get_finished_spans()
assert span.attributes["llmpool.cancelled"]
"""
    done = run_python(script, f"{quick.url}/v1{CHAT}")
    assert done.returncode == 0, done.stderr


def test_a_tracer_that_fails_costs_no_request(seen, client, monkeypatch):
    llmpool.otel.instrument(tracer_provider=seen.tracers)

    def broken(*_, **__):
        raise RuntimeError("no span today")

    monkeypatch.setattr(trace.NonRecordingSpan, "end", broken, raising=False)
    monkeypatch.setattr(type(seen.tracer()), "start_span", broken)
    assert client.post(CHAT, json=body()).status_code == 200
    with client.stream("POST", CHAT, json=body(stream=True)) as response:
        assert list(response.iter_sse(stop="[DONE]"))


@pytest.mark.parametrize(
    "arguments, error",
    [
        ({"stall_after": 0}, ValueError),
        ({"stall_after": float("nan")}, ValueError),
        ({"stall_after": "5"}, TypeError),
        ({"gen_ai": "openai"}, TypeError),
    ],
)
def test_arguments_that_cannot_be_meant(arguments, error):
    with pytest.raises(error, match=next(iter(arguments))):
        llmpool.otel.instrument(**arguments)
    assert tracing.begin is None


def test_without_opentelemetry_it_says_what_to_install(run_python):
    script = """
import sys
class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "opentelemetry":
            raise ImportError(name)
sys.meta_path.insert(0, Missing())
import llmpool
assert not any(name.startswith(("opentelemetry", "llmpool._otel")) for name in sys.modules)
try:
    import llmpool.otel
except ImportError as error:
    assert "libllmpool[otel]" in str(error), error
else:
    raise AssertionError
"""
    done = run_python(script)
    assert done.returncode == 0, done.stderr
