import gzip
import json
import pickle
import time
import zlib

import pytest

import llmpool
from llmpool._client.converters import Text
from llmpool._http.answer import Answer
from llmpool._http.content import encode_body
from llmpool._http.decode import decode_body
from llmpool._http.models import Request, Response
from llmpool._native.failures import BY_STATUS, request_failed

TEXT = b"the same words again and again " * 1000


def gzipped(data):
    return gzip.compress(data, mtime=0)  # the same in each process that collects the tests


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def response(body=b"", headers=b"", status=200, **more):
    request = Request("GET", llmpool.URL("https://h/p"), b"", None)
    answer = Response.__new__(Response)
    limit = more.pop("limit", 64 << 20)
    received = Answer.of(http_status=status, attempts=1, data=body, headers=headers, **more)
    answer._received(request, received, status, limit)
    return answer


@pytest.mark.parametrize(
    "coding, body",
    [
        ("gzip", gzipped(TEXT)),
        ("x-gzip", gzipped(TEXT)),
        ("GZIP", gzipped(TEXT[:100]) + gzipped(TEXT[100:])),
        ("gzip", gzipped(TEXT) + b"\0" * 20),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", raw_deflate(TEXT)),
        ("deflate, gzip", gzipped(zlib.compress(TEXT))),
        ("identity", TEXT),
        ("utf-8", TEXT),  # a mistake of the server's
        ("gzip", gzipped(TEXT) + b"junk"),  # ignored by curl and every other client
        ("gzip", gzipped(TEXT) + b"\x1f"),
    ],
)
def test_codings(coding, body):
    answer = response(body, b"Content-Encoding: " + coding.encode() + b"\r\n")
    assert answer.content == TEXT
    assert answer.raw_content == body


@pytest.mark.parametrize("body", [b"junk", gzipped(TEXT)[:-9], gzipped(TEXT) + b"\x1f\x8b"])
def test_broken_codings(body):
    answer = response(body, b"content-encoding: gzip\r\n")
    for _ in range(2):
        with pytest.raises(llmpool.DecodingError) as caught:
            answer.content  # noqa: B018
        assert caught.value.request is answer.request


def test_a_bomb_is_bounded():
    bomb = gzipped(bytes(50_000_000))
    with pytest.raises(llmpool.ResponseTooLarge):
        decode_body("gzip", bomb, 1_000_000)
    two = gzipped(bytes(600_000)) * 2
    with pytest.raises(llmpool.ResponseTooLarge):
        decode_body("gzip", two, 1_000_000)
    assert len(decode_body("gzip", two, 1_200_000)) == 1_200_000


def test_head_has_no_body_to_decode():
    assert response(b"", b"content-encoding: gzip\r\n").content == b""


def test_text_and_charset():
    assert response("ü".encode()).text == "ü"
    latin = response(b"\xfc", b'content-type: text/plain; charset="iso-8859-1"\r\n')
    assert latin.text == "ü" and latin.charset_encoding == "iso-8859-1"
    assert response(b"\xfc").text == "\ufffd"
    assert response(b"x", b"content-type: text/plain; charset=no-such\r\n").text == "x"
    chosen = response(b"\xfc")
    chosen.encoding = "latin-1"
    assert chosen.text == "ü"


# Codecs that Python has and that are no charsets, or raise whatever the errors argument says.
NO_CHARSETS = [
    "punycode", "idna", "undefined", "unicode_escape", "raw-unicode-escape", "hex", "base64",
    "zlib", "rot13", "quopri", "uu", "bz2", "none", "a\0b", "x" * 5000, "ü", "../os", "",
]  # fmt: skip


@pytest.mark.parametrize("charset", NO_CHARSETS)
def test_text_never_raises(charset):
    line = f"content-type: text/plain; charset={charset}\r\n".encode()
    for body in (b"\xff-\xfe\x80", b"xn--" + b"a" * 2000, b"\\ud800\\", b"\xc3\xbc"):
        answer = response(body, line)
        assert answer.encoding == "utf-8" and answer.text == body.decode("utf-8", "replace")
        assert "".join(Text("", answer.encoding).batch([body])) is not None
    with pytest.raises(json.JSONDecodeError):
        response(b"{", line).json()
    if charset:
        with pytest.raises(LookupError, match="no text encoding"):
            response().encoding = charset


def test_text_never_raises_for_any_codec_of_python():
    import encodings.aliases

    for name in sorted({*encodings.aliases.aliases, *encodings.aliases.aliases.values()}):
        line = f"content-type: text/plain; charset={name}\r\n".encode()
        for body in (b"\xff\xfe\0-+", bytes(range(256)), b"\x1b$B\xff"):
            answer = response(body, line)
            converter = Text("", answer.encoding)
            pieces = [body[i : i + 1] for i in range(len(body))]
            streamed = "".join((*converter.batch(pieces), *converter.end()))
            assert answer.text.lstrip("\ufeff") == streamed.lstrip("\ufeff"), name


def test_text_is_not_held_back():
    assert list(Text("", "utf-8").batch([b"a", b"b"])) == ["a", "b"]
    assert "".join(Text("", "utf-16").batch(["hü".encode("utf-16-le")])) == "hü"


def test_punycode_is_not_decoded():
    began = time.process_time()
    long = b"a-" + b"9" * 300_000
    assert response(long, b"content-type: text/plain; charset=punycode\r\n").text == long.decode()
    assert time.process_time() - began < 1


def test_json_has_the_charset_of_its_content_type():
    def decoded(body, charset):
        return response(
            body, f"Content-Type: application/json; charset={charset}\r\n".encode()
        ).json()

    assert decoded('"ü"'.encode("latin-1"), "iso-8859-1") == "ü"
    assert decoded('"ж"'.encode("koi8-r"), "KOI8-R") == "ж"
    assert decoded('"日"'.encode("shift_jis"), "Shift_JIS") == "日"
    for charset in ("utf-8", "utf8", "punycode", "no-such", "hex", "ascii"):
        assert decoded('"ü"'.encode(), charset) == "ü"
    for encoding in ("utf-16", "utf-8-sig"):  # a byte order mark says more than the header
        assert decoded('"ü"'.encode(encoding), "iso-8859-1") == "ü"
    llmpool.use_json(loads=lambda text: text)
    try:
        assert decoded('"ü"'.encode("latin-1"), "iso-8859-1") == '"ü"'
    finally:
        llmpool.use_json()


@pytest.mark.parametrize(
    "given, content, kind",
    [
        ({}, b"", None),
        ({"json": {"a": "ü"}}, '{"a":"ü"}'.encode(), "application/json"),
        ({"text": "ü"}, "ü".encode(), "text/plain; charset=utf-8"),
        ({"html": "<b>"}, b"<b>", "text/html; charset=utf-8"),
        ({"content": b"x"}, b"x", None),
        ({"json": [], "headers": {"Content-Type": "text/x"}}, b"[]", "text/x"),
        ({"content": gzipped(b"x"), "headers": {"content-encoding": "gzip"}}, b"x", None),
    ],
)
def test_responses_for_the_tests_of_an_application(given, content, kind):
    answer = llmpool.Response(200, **given)
    assert answer.content == content and answer.headers.get("content-type") == kind
    assert answer.raise_for_status() is answer and repr(answer) == "<Response [200 OK]>"
    if "json" in given:
        assert answer.json() == given["json"]
    assert answer.attempts == 1 and not answer.reused and answer.history == []
    assert answer.http_version == "HTTP/1.1" and answer.elapsed.total_seconds() == 0
    again = pickle.loads(pickle.dumps(answer))
    assert again.content == content and again.status_code == 200
    assert answer.request.method == "GET" and answer.url == ""
    with pytest.raises(llmpool.HTTPStatusError, match=r"^Server error '500 Internal Server Error'"):
        llmpool.Response(500, **given).raise_for_status()


def test_responses_for_tests_are_checked():
    request = llmpool.Request("POST", "https://h/p", {"x-a": "1"}, b"body")
    answer = llmpool.Response(404, request=request)
    assert answer.url.host == "h" and answer.request.headers["x-a"] == "1"
    with pytest.raises(TypeError, match="only one of"):
        llmpool.Response(200, text="a", json={})
    with pytest.raises(TypeError, match="status_code"):
        llmpool.Response("200")
    with pytest.raises(TypeError, match="content is bytes"):
        llmpool.Response(200, content={"a": 1})
    with pytest.raises(llmpool.LocalProtocolError):
        llmpool.Response(200, headers={"a b": "x"})


def test_json():
    value = {"a": ["ü", 1.5, None]}
    text = json.dumps(value, ensure_ascii=False)
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"):
        assert response(text.encode(encoding)).json() == value
    assert response(b"1.0").json(parse_float=str) == "1.0"
    with pytest.raises(json.JSONDecodeError):
        response(b"{").json()


def test_status_kinds():
    assert response(status=204).is_success and not response(status=204).is_error
    assert response(status=302).is_redirect
    assert response(status=404).is_client_error and response(status=529).is_server_error
    ok = response(status=200)
    assert ok.raise_for_status() is ok
    with pytest.raises(llmpool.HTTPStatusError, match="Client error '404 Not Found'") as caught:
        response(status=404).raise_for_status()
    assert caught.value.response.status_code == 404
    with pytest.raises(llmpool.HTTPStatusError, match="Server error '529 '"):
        response(status=529).raise_for_status()
    with pytest.raises(llmpool.HTTPStatusError, match="Redirect location: '/x'"):
        response(status=302, headers=b"Location: /x\r\n").raise_for_status()


def test_reason_and_version():
    assert response(reason=b"Fine").reason_phrase == "Fine"
    assert response().reason_phrase == "OK" and response(status=599).reason_phrase == ""
    assert [response(http_version=v).http_version for v in (1, 2, 3)] == [
        "HTTP/1.1", "HTTP/2", "HTTP/1.0",
    ]  # fmt: skip
    assert repr(response()) == "<Response [200 OK]>"


def test_hierarchy_is_httpx_own():
    try:
        import httpx
    except ImportError:
        httpx = pytest.importorskip("httpx2")
    for name in (
        "HTTPError", "RequestError", "TransportError", "TimeoutException", "ConnectTimeout",
        "ReadTimeout", "WriteTimeout", "PoolTimeout", "NetworkError", "ConnectError", "ReadError",
        "WriteError", "CloseError", "ProxyError", "UnsupportedProtocol", "ProtocolError",
        "LocalProtocolError", "RemoteProtocolError", "DecodingError", "TooManyRedirects",
        "HTTPStatusError", "InvalidURL",
    ):  # fmt: skip
        theirs = [kind.__name__ for kind in getattr(httpx, name).__mro__]
        ours = [kind.__name__ for kind in getattr(llmpool, name).__mro__]
        assert [kind for kind in ours if kind in theirs] == theirs


def test_exceptions():
    request = Request("GET", llmpool.URL("https://h/p"), b"", None)
    error = request_failed(-33, "silent for 5 s", request, False)
    assert type(error) is llmpool.ReadTimeout and error.status == "LLMPOOL_E_READ_TIMEOUT"
    assert str(error) == "silent for 5 s" and error.request is request and not error.unseen
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.status, str(again)) == (type(error), error.status, str(error))
    assert again.request.url == request.url
    assert "certificate" in str(request_failed(-44, "", None, True))
    assert type(request_failed(-9999, "", None, False)) is llmpool.TransportError
    assert repr(error).startswith("ReadTimeout") and type(error).__module__ == "llmpool"


def test_every_status_of_a_request_has_an_exception():
    from llmpool._native import abi

    not_of_requests = {"OK", "E_INVALID_ARGUMENT", "E_NOT_FOUND", "E_AGAIN"}
    for status, name in abi.STATUS_NAMES.items():
        if name[len("LLMPOOL_") :] not in not_of_requests:
            assert status in BY_STATUS, name


@pytest.mark.parametrize(
    "given, body, content_type",
    [
        ({}, None, ""),
        ({"content": b"x"}, b"x", ""),
        ({"content": "ü"}, "ü".encode(), ""),
        ({"content": bytearray(b"x")}, b"x", ""),
        ({"json": {"a": "ü"}}, '{"a":"ü"}'.encode(), "application/json"),
        ({"json": []}, b"[]", "application/json"),
        (
            {"data": {"a": [1, True], "b": "x y&"}},
            b"a=1&a=true&b=x+y%26",
            "application/x-www-form-urlencoded",
        ),
    ],
)
def test_bodies(given, body, content_type):
    from llmpool._http.content import Body, encode_body

    arguments = {"content": None, "data": None, "json": None, **given}
    assert encode_body(**arguments) == Body(body, None, content_type)


def test_bodies_refused():
    client = llmpool.Client()
    for wrong in (
        {"content": "a", "json": 1},
        {"content": 5},
        {"data": "a=1"},
        {"content": iter(["text"])},
        {"content": {"a": 1}},
        {"files": {"a": b"x"}, "json": 1},
    ):
        with pytest.raises(TypeError):
            client.post("http://127.0.0.1:1/", **wrong)
    with pytest.raises(ValueError):
        client.post("http://127.0.0.1:1/", json=float("nan"))


@pytest.mark.parametrize("kind", [str, bytes])
def test_another_json_library(kind):
    seen = []

    def dumps(value):
        seen.append(value)
        return kind("[]", "ascii") if kind is bytes else "[]"

    def loads(text):
        seen.append(text)
        return "loaded"

    llmpool.use_json(dumps=dumps, loads=loads)
    try:
        assert encode_body(None, None, {"a": 1}).data == b"[]"
        assert response(b'{"b": 1}').json() == "loaded"
        assert llmpool.Event(data="{}").json() == "loaded"
        assert seen == [{"a": 1}, b'{"b": 1}', "{}"]
        assert response(b"1.5").json(parse_float=str) == "1.5"  # what only json.loads() takes
    finally:
        llmpool.use_json()
    assert encode_body(None, None, {"a": "ä"}).data == '{"a":"ä"}'.encode()
    assert response(b"[1]").json() == [1]


@pytest.mark.parametrize("charset", ["hz", "iso-2022-jp", "utf-16", "utf-16-le", "latin-1", "gbk"])
def test_json_in_a_charset_that_may_look_like_ascii(charset):
    text = {"a": "\xe9" if charset == "latin-1" else "\u4e2d\u6587"}
    body = json.dumps(text, ensure_ascii=False).encode(charset)
    for name in (b"charset", b"ChArSet"):
        head = b"content-type: application/json; %b=%b\r\n" % (name, charset.encode())
        assert response(body, head).json() == text


def test_json_is_parsed_once():
    calls = []
    with pytest.raises(ValueError):
        response(b'{"a": 1}').json(object_hook=lambda value: calls.append(value) or int("x"))
    assert len(calls) == 1


def test_codings_whatever_the_case_of_their_header():
    for name in (b"content-encoding", b"Content-EnCoding", b"CONTENT-ENCODING"):
        assert response(gzipped(TEXT), name + b": gzip\r\n").content == TEXT
