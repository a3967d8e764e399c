"""The parsers of event streams: Python's, and the library's through the client, give the same."""

import gzip

import pytest
import servers

import llmpool
from llmpool import Event
from llmpool._sse import Parser

# From web-platform-tests, eventsource/format-*.
CASES = {
    "bom": (b"\xef\xbb\xbfdata:1\n\ndata:2\n\n", [("message", "1"), ("message", "2")]),
    "bom-2": (b"\xef\xbb\xbf\xef\xbb\xbfdata:1\n\ndata:2\n\n", [("message", "2")]),
    "comments": (
        b"data:1\r:\0\n:\r\ndata:2\n:" + b"x" * 4096 + b"\rdata:3\n:data:fail\r\ndata:4\n\n",
        [("message", "1\n2\n3\n4")],
    ),
    "data-before-final-empty-line": (b"retry:1000\ndata:test1\n\nid:test\ndata:test2", 1),
    "field-data": (b"data:\n\ndata\ndata\n\ndata:test\n\n", ["", "\n", "test"]),
    "field-event": (
        b"event:test\ndata:x\n\ndata:x\n\n",
        [("test", "x"), ("message", "x")],
    ),
    "field-event-empty": (b"event: \ndata:data\n\n", [("message", "data")]),
    "field-parsing": (
        b"data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\ndata:3\r"
        b"data:\r\n data:32\ndata:4\n\n",
        ["\0\n 2\n1\n3\n\n4"],
    ),
    "field-unknown": (b"data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacomment\n\n",
                      ["test\n"]),
    "leading-space": (b"data:\ttest\rdata: \ndata:test\n\n", ["\ttest\n\ntest"]),
    "newlines": (b"data:test\r\ndata\ndata:test\r\n\r", ["test\n\ntest"]),
    "null-character": (b"data:\0\n\n\n\n", ["\0"]),
    "utf-8": ("data:ok…\n\n".encode(), ["ok…"]),
}  # fmt: skip


def normal(expected):
    if expected == 1:
        return [("message", "test1")]
    return [each if isinstance(each, tuple) else ("message", each) for each in expected]


def of(events):
    return [(event.event, event.data) for event in events]


@pytest.mark.parametrize("name", CASES)
def test_cases(name):
    stream, expected = CASES[name]
    for size in (1, 2, 3, 7, len(stream)):
        parser = Parser()
        events = []
        for begin in range(0, len(stream), size):
            events += parser.feed(stream[begin : begin + size])
        assert of(events) == normal(expected)


def test_ids_and_retry():
    events = Parser().feed(
        b"id: 1\nretry: 30\ndata: a\n\ndata: b\n\nid: a\0\nid\nretry: x\ndata: c\n\n"
    )
    assert events == [
        Event("message", "a", "1", 30),
        Event("message", "b", "1", None),
        Event("message", "c", "", None),
    ]


def test_too_large():
    parser = Parser()
    assert len(parser.feed(b"data: x\n\n" * 300_000)) == 300_000
    parser.feed(b"data: ")
    with pytest.raises(llmpool.ResponseTooLarge):
        for _ in range(20):
            parser.feed(b"x" * 65536)


def test_every_way_to_split():
    hypothesis = pytest.importorskip("hypothesis")
    from hypothesis import strategies

    alphabet = strategies.sampled_from(
        [b"data", b"id", b"event", b"retry", b":", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"1",
         b"\xc3\xa4", b"\xef\xbb\xbf", b"\0", b"x"]
    )  # fmt: skip

    @hypothesis.settings(max_examples=500, deadline=None)
    @hypothesis.given(strategies.lists(alphabet), strategies.randoms(use_true_random=False))
    def check(parts, random):
        stream = b"".join(parts)
        whole = Parser().feed(stream)
        parser = Parser()
        pieces = []
        rest = stream
        while rest:
            size = random.randint(1, 5)
            pieces += parser.feed(rest[:size])
            rest = rest[size:]
        assert pieces == whole

    check()


def test_written_anew():
    event = Event("ping", "a\nb", "7", 5)
    assert event.encode() == b"event: ping\nid: 7\nretry: 5\ndata: a\ndata: b\n\n"
    assert Parser().feed(event.encode()) == [event]
    assert Event("message", "{}", "7").encode("7") == b"data: {}\n\n"


@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("sse", [True, False])
def test_the_same_from_the_library(coding, sse, open_client):
    streams = {name.encode(): stream for name, (stream, _) in CASES.items()}

    def handle(connection, _):
        buffer = b""
        while True:
            head, _, buffer = servers.read_request(connection, buffer)
            body = streams[head.split(b" ")[1][1:]]
            extra = b"content-type: text/event-stream\r\n"
            if coding:
                body = gzip.compress(body)
                extra += b"content-encoding: gzip\r\n"
            servers.answer(connection, body, extra)

    with servers.RawServer(handle) as server:
        client = open_client(server.url)
        for name, (stream, _) in CASES.items():
            with client.stream("GET", f"/{name}", sse=sse) as response:
                events = list(response.iter_sse())
            assert events == Parser().feed(stream), name
