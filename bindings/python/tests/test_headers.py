import sys
from enum import Enum

import pytest
import servers

import llmpool
from llmpool import Headers, LocalProtocolError
from llmpool._http.decode import accept_encoding


def test_case_and_order():
    headers = Headers([("X-A", "1"), ("x-b", "2"), ("x-a", "3")])
    assert headers["x-A"] == "1, 3"
    assert headers.get_list("X-a") == ["1", "3"]
    assert headers.multi_items() == [("x-a", "1"), ("x-b", "2"), ("x-a", "3")]
    assert list(headers) == ["x-a", "x-b"] and len(headers) == 2
    assert "X-B" in headers and "x-c" not in headers
    headers["X-A"] = "4"
    assert headers.raw == [(b"X-A", b"4"), (b"x-b", b"2")]
    del headers["x-a"]
    with pytest.raises(KeyError):
        headers["x-a"]
    with pytest.raises(KeyError):
        del headers["x-a"]
    assert headers == {"X-B": "2"} and headers != {"x-b": "3"}
    assert headers.get("none") is None


def test_split_commas_and_update():
    headers = Headers({"accept": "a, b", b"X-Bytes": b"c"})
    assert headers.get_list("accept", split_commas=True) == ["a", "b"]
    headers.update([("accept", "c"), ("accept", "d")])
    assert headers.get_list("accept") == ["c", "d"]
    assert headers["x-bytes"] == "c"


def test_received_block():
    headers = Headers._parse("Set-Cookie: a=1\r\nset-cookie: b=2\r\nX: \tü \r\nempty:\r\n".encode())
    assert headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert headers["x"] == "ü" and headers["empty"] == ""
    assert Headers._parse(b"x: \xe9")["x"] == "é"  # not UTF-8


def test_each_value_is_decoded_by_itself():
    block = b"A: \xe9 \r\nB: " + "ü".encode() + b"\r\nC: x\r\n"
    headers = Headers._parse(block)
    assert headers["a"] == "é" and headers["b"] == "ü" and headers["c"] == "x"
    assert headers.raw == [(b"A", b"\xe9"), (b"B", "ü".encode()), (b"C", b"x")]
    assert headers.copy()._block() == b"A: \xe9\r\nB: \xc3\xbc\r\nC: x\r\n"


def test_values_that_are_not_ascii_are_sent_as_the_bytes_they_are(open_client):
    seen = []

    def handle(connection, _):
        seen.append(servers.read_request(connection)[0])
        servers.answer(connection, b"", b"x-back: \xfc\r\n")

    with servers.RawServer(handle) as server:
        client = open_client(server.url, headers={"x-latin": b"\xfc"})
        answer = client.get("/", headers={"x-utf8": "ü".encode(), "x-model": Model.SMALL})
        assert answer.headers.raw[-1] == (b"x-back", b"\xfc") and answer.headers["x-back"] == "ü"
        assert answer.request.headers["x-utf8"] == "ü"
    assert b"x-latin: \xfc\r\n" in seen[0] and b"x-utf8: \xc3\xbc\r\n" in seen[0]
    assert b"x-model: gpt-small" in seen[0].split(b"\r\n")
    with pytest.raises(LocalProtocolError, match="give it as bytes"):
        llmpool.Client(headers={"x": "ü"})


class Model(str, Enum):
    SMALL = "gpt-small"


def test_repr_hides_secrets():
    headers = Headers({"Authorization": "Bearer sk-1", "x-api-key": "sk-2", "accept": "*/*"})
    assert "sk-" not in repr(headers) and "*/*" in repr(headers)


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb", "a\0b", "key\n"])
def test_values_that_would_smuggle(value):
    with pytest.raises(LocalProtocolError) as caught:
        llmpool.Client(headers={"x-secret": value})
    assert "'x-secret'" in str(caught.value)
    assert value not in str(caught.value)  # it may be a key


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "ä", "a\0"])
def test_names_refused(name):
    with pytest.raises(LocalProtocolError):
        llmpool.Client().get("http://127.0.0.1:1/", headers={name: "x"})


def test_values_that_are_not_ascii_or_text():
    with pytest.raises(LocalProtocolError, match="'x'"):
        llmpool.Client(headers={"x": "ä"})
    for value in (None, 5):
        with pytest.raises(TypeError, match="'x'"):
            llmpool.Client(headers={"x": value})
    with pytest.raises(TypeError):
        llmpool.Client().get("http://127.0.0.1:1/", headers={"x": ["a"]})


def test_block_is_made_once_per_set():
    client = llmpool.Client(headers={"x-a": "1"})
    first = client._block({"x-b": "2"}, "")
    assert client._block({"x-b": "2"}, "") is first
    assert b"x-b: 2\r\n" in first and b"x-a: 1\r\n" in first
    client.headers["x-a"] = "3"
    assert b"x-a: 3\r\n" in client._block({"x-b": "2"}, "")
    client.headers = {"x-c": "4"}
    assert client._block(None, "") == b"x-c: 4\r\n"


def test_defaults_and_content_type():
    client = llmpool.Client()
    block = client._block(None, "application/json")
    codings = accept_encoding().encode()
    assert codings.startswith(b"gzip, deflate")
    version = llmpool.__version__.encode()
    assert b"accept: */*\r\n" in block and b"accept-encoding: " + codings + b"\r\n" in block
    assert b"user-agent: python-llmpool/" + version + b"\r\n" in block
    assert b"content-type: application/json\r\n" in block
    own = client._block({"Content-Type": "application/x-ndjson"}, "application/json")
    assert own.lower().count(b"content-type") == 1 and b"x-ndjson" in own


def test_cache_is_bounded():
    client = llmpool.Client()
    for number in range(1000):
        client._block({"idempotency-key": str(number)}, "")
        client._resolve(f"http://127.0.0.1/{number}", None)
    assert len(client._blocks[1]) <= 128 and len(client._urls) <= 128


@pytest.mark.parametrize(
    "headers",
    [
        "authorization: Bearer sk-abcdefgh1234", b"x", 5, ["authorization: Bearer sk-abcdefgh1234"],
        [("x", "sk-abcdefgh1234", "y")], ["ab"], [5], [None],
    ],
)  # fmt: skip
def test_headers_of_another_shape_are_refused_without_showing_them(headers):
    for use in (
        lambda: Headers(headers),
        lambda: llmpool.Client(headers=headers),
        lambda: llmpool.get("http://127.0.0.1:9/", headers=headers),
    ):
        with pytest.raises(TypeError, match=r"pairs \(name, value\)") as caught:
            use()
        assert "sk-" not in str(caught.value)


@pytest.mark.parametrize("value", [None, 5])
def test_a_key_in_a_names_place_is_not_shown(value):
    with pytest.raises(TypeError, match="the value of the header") as caught:
        Headers({"Bearer sk-abcdefgh1234": value})
    assert "sk-" not in str(caught.value)


def _made_while_another_makes(line):
    """Blocks made after a change by two threads, the other having its turn before this line."""
    client = llmpool.Client(headers={"x-key": "old"})
    client._block(None, "")
    client.headers["x-key"] = "new"
    made = []
    lines = 0

    def trace(frame, event, _):
        nonlocal lines
        if frame.f_code is llmpool.Client._block.__code__ and event == "line":
            lines += 1
            if lines == line:
                made.append(client._block(None, ""))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        made.append(client._block(None, ""))
    finally:
        sys.settrace(before)
    return made


def test_a_changed_header_is_sent_at_once_whatever_other_threads_do():
    """A new key is not followed by a request with the old one."""
    made = [block for line in range(1, 30) for block in _made_while_another_makes(line)]
    assert len(made) > 35 and all(b"x-key: new\r\n" in block for block in made)
