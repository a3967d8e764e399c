"""The parsers of event streams: Python's, and the library's through the client, give the same."""

import gzip
import tracemalloc

import pytest
import servers

import llmpool
from llmpool import Event
from llmpool._http.sse import Parser

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
    "field-id": (b"id: 1\ndata: hello\n\ndata: x\n\n", [Event("message", "hello", "1"),
                                                       Event("message", "x", "1")]),
    "field-id-2": ("id: …\ndata: hello\n\ndata: …\n\ndata:…\n\n".encode(),
                   [Event("message", "hello", "…"), Event("message", "…", "…"),
                    Event("message", "…", "…")]),
    "field-id-3-persists": (b"id: 1\ndata: 1\n\ndata:2\n\n",
                            [Event("message", "1", "1"), Event("message", "2", "1")]),
    "field-id-3-changes": (b"id: 1\ndata: 1\n\nid: 2\ndata:2\n\ndata:3\n\n",
                           [Event("message", "1", "1"), Event("message", "2", "2"),
                            Event("message", "3", "2")]),
    "field-id-3-resets": (b"id: 1\ndata: 1\n\nid:\ndata:2\n\ndata:3\n\n",
                          [Event("message", "1", "1"), Event("message", "2", ""),
                           Event("message", "3", "")]),
    **{f"field-id-null-{index}": (b"id: %s\ndata: hello\n\n" % value, ["hello"])
       for index, value in enumerate((b"\0\0", b"x\0", b"\0x", b"x\0x", b" \0"))},
    "field-retry": (b"retry:3000\ndata:x\n\n", [Event("message", "x", "", 3000)]),
    "field-retry-bogus": (b"retry:3000\nretry:1000x\ndata:x\n\n",
                          [Event("message", "x", "", 3000)]),
    "field-retry-empty": (b"retry\ndata:test\n\n", [Event("message", "test", "", None)]),
}  # fmt: skip


def normal(expected):
    """As events; 1: the second is dropped, without its empty line, and its id with it."""
    if expected == 1:
        return [Event("message", "test1", "", 1000)]
    return [
        each if isinstance(each, Event)
        else Event(*each) if isinstance(each, tuple) else Event("message", each)
        for each in expected
    ]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_cases(name):
    stream, expected = CASES[name]
    for size in (1, 2, 3, 7, len(stream)):
        parser = Parser()
        events = []
        for begin in range(0, len(stream), size):
            events += parser.feed(stream[begin : begin + size])
        assert events == normal(expected)


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
    limit = 16 << 20
    parser = Parser()
    assert parser.feed(b"data:" + b"x" * (limit // 2) + b"\n\n")  # images come as one event
    # More bytes than one may have, and none of the events is too large.
    many = b"data: " + b"x" * 1000 + b"\n\n"
    assert len(parser.feed(many * 17_000)) == 17_000
    parser.feed(b"data: " + b"x" * (limit - 100))
    with pytest.raises(llmpool.ResponseTooLarge):
        parser.feed(b"x" * 101)


def test_a_line_in_small_pieces_takes_its_size():
    parser = Parser()
    tracemalloc.start()
    try:
        for _ in range(200_000):
            parser.feed(bytes(bytearray(b"xy")))
        assert tracemalloc.get_traced_memory()[0] < 7_000_000  # in pieces: 9,000,000 and more
    finally:
        tracemalloc.stop()


def test_an_id_beyond_the_limit_is_passed_over():
    longest = "i" * 4096
    stream = f"id: {longest}\ndata: a\n\nid: {longest}i\ndata: b\n\n".encode()
    assert [event.id for event in Parser().feed(stream)] == [longest, longest]


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
        for name, (_, expected) in CASES.items():
            with client.stream("GET", f"/{name}", sse=sse) as response:
                events = list(response.iter_sse())
            assert events == normal(expected), name


@pytest.mark.parametrize(
    "kind, parsed",
    [
        ("text/event-stream", True),
        ("text/event-stream;", True),  # format-mime-trailing-semicolon
        ("text/event-stream; charset=windows-1252", True),  # always UTF-8, format-utf-8
        ("Text/Event-Stream ; charset=utf-8", True),
        ("text/event-streams", False),
        ("text/x-bogus", False),  # format-mime-valid-bogus
        ("x bogus", False),  # format-mime-bogus
    ],
)
def test_content_types(kind, parsed, open_client):
    """The library parses what is an event stream; of the rest the bytes come, and no events."""

    def handle(connection, _):
        servers.read_request(connection)
        extra = b"content-type: %s\r\nconnection: close\r\n" % kind.encode()
        servers.answer(connection, "data:ok…\n\n:c\n".encode(), extra)

    with servers.RawServer(handle) as server:
        client = open_client(server.url)
        with client.stream("GET", "/") as response:
            # A comment stands for no event, and is lost where the library parses.
            assert (b":c" in response.read()) is not parsed
        with client.stream("GET", "/") as response:
            if parsed:
                assert list(response.iter_sse()) == [Event("message", "ok…")]
            else:
                with pytest.raises(llmpool.NotEventStream):
                    list(response.iter_sse())


def test_every_way_to_split_in_the_library(open_client):
    """The library gives the events that Python's parser finds in the whole stream, however the
    bytes are cut: each piece is an HTTP chunk of its own."""
    hypothesis = pytest.importorskip("hypothesis")
    from hypothesis import strategies

    streams = []

    def handle(connection, _):
        buffer = b""
        while True:
            _, _, buffer = servers.read_request(connection, buffer)
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in streams[-1])
            connection.sendall(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
            )

    alphabet = strategies.sampled_from(
        [b"data", b"id", b"event", b"retry", b":", b": ", b"\n", b"\r", b"\r\n", b"\n\n", b"1",
         b"x", b"\xc3\xa4", b"\xff", b"\xef\xbb\xbf", b"\0", b"data: y\n\n", b"id: 7\n",
         b"retry: 5\r"]
    )  # fmt: skip

    with servers.RawServer(handle) as server:
        client = open_client(server.url)

        @hypothesis.settings(max_examples=400, deadline=None)
        @hypothesis.given(strategies.lists(alphabet, max_size=40), strategies.data())
        def check(parts, data):
            stream = b"".join(parts)
            cuts = data.draw(strategies.sets(strategies.integers(0, len(stream))))
            ends = [0, *sorted(cuts), len(stream)]
            pieces = (stream[begin:end] for begin, end in zip(ends, ends[1:]))
            streams.append([piece for piece in pieces if piece])  # an empty chunk would be the end
            with client.stream("GET", "/") as response:
                assert list(response.iter_sse()) == Parser().feed(stream)

        check()
        assert server.connections == 1 and len(streams) >= 400
