"""What may be sent as a body, and how it arrives."""

import contextlib
import io
import json
import os
from collections import OrderedDict
from enum import Enum, IntEnum
from pathlib import Path

import pytest
import servers

import llmpool
from llmpool._http.content import PIECE, _Multipart, encode_body
from llmpool._http.json import decode, encode


@contextlib.contextmanager
def recorder():
    """A server that keeps what it was sent; the pieces of a chunked body joined."""
    seen = []

    def handle(connection, _):
        buffer = b""
        while True:
            head, body, buffer = servers.read_request(connection, buffer)
            if b"chunked" in head.lower():
                while not buffer.endswith(b"0\r\n\r\n"):
                    buffer += connection.recv(65536)
                body, buffer = joined(buffer), b""
            seen.append((head.lower(), body))
            servers.answer(connection, b"ok")

    with servers.RawServer(handle) as server:
        server.seen = seen
        yield server


def joined(chunks):
    body = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        body, chunks = body + chunks[: int(size, 16)], chunks[int(size, 16) + 2 :]
    return body


TEXT = "Grüße, 世界\n" * 1000


class Small(str, Enum):
    MODEL = "gpt-small"


def test_text_files_have_a_length_in_bytes(tmp_path, open_client):
    path = tmp_path / "text"
    path.write_text(TEXT, encoding="utf-8")
    with recorder() as server:
        client = open_client(server.url)
        with open(path, encoding="utf-8") as file:
            client.post("/", content=file)
            assert client.post("/", content=file).is_success  # at its end: nothing
        client.post("/", content=io.StringIO(TEXT))
        started = io.StringIO(TEXT)
        started.read(7)
        client.post("/", content=started)
    bodies = [body for _, body in server.seen]
    assert bodies == [TEXT.encode(), b"", TEXT.encode(), TEXT[7:].encode()]
    assert b"content-length: %d" % len(TEXT.encode()) in server.seen[0][0]


def test_large_text_files_are_sent_piece_by_piece(tmp_path):
    text = "ü" * (3 << 20)
    path = tmp_path / "text"
    path.write_text(text, encoding="utf-8")
    with open(path, encoding="utf-8") as file:
        body = encode_body(file, None, None)
        assert body.data is None and body.length is None  # not known before it was read
        assert b"".join(body.upload) == text.encode()


def test_asyncio_files(tmp_path):
    aiofiles = pytest.importorskip("aiofiles")
    anyio = pytest.importorskip("anyio")
    import asyncio

    data = bytes(range(256)) * 5000
    path = tmp_path / "data"
    path.write_bytes(data)
    text = tmp_path / "text"
    text.write_text(TEXT, encoding="utf-8")

    class Upload:  # as starlette's UploadFile
        def __init__(self):
            self.file = io.BytesIO(data)

        async def read(self, size=-1):
            return self.file.read(size)

        async def seek(self, position):
            self.file.seek(position)

    async def send(url):
        client = llmpool.AsyncClient(base_url=url)
        async with aiofiles.open(path, "rb") as file:
            await client.post("/", content=file)
        async with await anyio.open_file(path, "rb") as file:
            await client.post("/", content=file)
        async with aiofiles.open(text, encoding="utf-8") as file:
            await client.post("/", content=file)
        await client.post("/", content=Upload())

    with recorder() as server:
        asyncio.run(send(server.url))
        assert [body for _, body in server.seen] == [data, data, TEXT.encode(), data]
        with pytest.raises(TypeError, match="needs an AsyncClient"):
            llmpool.post(server.url, content=Upload())
        with pytest.raises(TypeError, match="needs an AsyncClient"):
            llmpool.post(server.url, files={"f": Upload()})
        assert len(server.seen) == 4


def test_content_for_both_kinds_of_clients(open_client):
    import asyncio

    class Both:  # as httpx's multipart stream
        def __iter__(self):
            return iter([b"plain ", b"pieces"])

        async def __aiter__(self):
            for piece in (b"async ", b"pieces"):
                yield piece

    async def send(url):
        await llmpool.AsyncClient(base_url=url).post("/", content=Both())

    with recorder() as server:
        open_client(server.url).post("/", content=Both())
        asyncio.run(send(server.url))
    assert [body for _, body in server.seen] == [b"plain pieces", b"async pieces"]


def test_only_asynchronous_content_says_which_client():
    async def pieces():
        yield b"x"

    with pytest.raises(TypeError, match="needs an AsyncClient"):
        llmpool.post("http://127.0.0.1:9/", content=pieces())


def _multipart_head(files):
    body = encode_body(None, None, None, files)
    return (body.data if body.data is not None else b"".join(body.upload)).split(b"\r\n\r\n")[0]


def test_file_names_that_are_no_text(tmp_path):
    """A file system's names are bytes; what of them is no text is U+FFFD, as browsers send it."""
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    with open(path, "wb") as file:
        file.write(b"x")
    expected = 'filename="caf\ufffd.txt"'.encode()
    with open(path, "rb") as file:
        assert expected in _multipart_head({"f": file})
    with open(os.fsdecode(path), "rb") as file:
        assert expected in _multipart_head({"f": file})
    for name in (b"caf\xe9.txt", Path(os.fsdecode(b"caf\xe9.txt"))):
        head = _multipart_head({"f": (name, b"x")})
        assert expected in head and b"text/plain" in head
    assert b'name="\xef\xbf\xbd"' in _multipart_head({b"\xff": b"x"})
    with open(os.dup(0), "rb") as file:  # whose name is a number
        assert f'filename="{file.name}"'.encode() in _Multipart({}, {"f": file}, "")._parts[0]


@pytest.mark.parametrize(
    "files, said",
    [
        (["a"], "files is a mapping of fields to files, or pairs (field, file)"),
        ([("a", b"x", "y")], "files is a mapping of fields to files, or pairs (field, file)"),
        ({"a": ("name",)}, "the file of the field 'a' is a tuple (file name, file[, content type"),
        ({"a": (1, b"x")}, "the file name of the field 'a' is a str, not int"),
        ({1: b"x"}, "a field's name is a str, not int"),
        ({"a": Path("a")}, "not PosixPath: open(path, 'rb') is a file"),
        ({"a": None}, "a file is str, bytes or a file object, not NoneType"),
    ],
)
def test_files_of_another_shape(files, said):
    with pytest.raises(TypeError) as caught:
        encode_body(None, None, None, files)
    assert said in str(caught.value)


def test_a_path_is_no_content():
    with pytest.raises(TypeError, match=r"not PosixPath: open\(path, 'rb'\) is a file"):
        encode_body(Path("a"), None, None)


@pytest.mark.parametrize(
    "own, request_s",
    [
        ({"content-type": "multipart/form-data"}, None),
        (None, {"Content-Type": "multipart/form-data"}),
        ({"content-type": "text/plain"}, {"content-type": "multipart/form-data; boundary=abc"}),
        (None, {"content-type": 'multipart/form-data; boundary="abc"'}),
        (None, {"content-type": "multipart/mixed; charset=utf-8"}),
    ],
)
def test_multipart_always_has_its_boundary(own, request_s, open_client):
    with recorder() as server:
        client = open_client(server.url, headers=own)
        client.post("/", files={"f": ("name", b"data")}, headers=request_s)
    head, body = server.seen[0]
    (line,) = (line for line in head.split(b"\r\n") if line.startswith(b"content-type:"))
    assert line.startswith(b"content-type: multipart/")
    boundary = line.partition(b"boundary=")[2].strip(b'"')
    assert boundary and body.startswith(b"--" + boundary + b"\r\n")
    assert body.endswith(b"--" + boundary + b"--\r\n")


def test_multipart_under_another_content_type_is_refused():
    client = llmpool.Client(headers={"content-type": "application/json"})
    with pytest.raises(ValueError, match="'application/json': leave it out"):
        client.post("http://127.0.0.1:9/", files={"f": b"x"})


def test_parts_of_a_multipart_body(tmp_path):
    (tmp_path / "t").write_text("x")
    body = encode_body(
        None, {Small.MODEL: Small.MODEL, b"bytes": b"\xff"}, None,
        {"text": io.StringIO("ü"), "array": bytearray(b"y"), b"raw": ("n", memoryview(b"z"))},
    )  # fmt: skip
    assert b'name="gpt-small"\r\n\r\ngpt-small\r\n' in body.data
    assert b'name="bytes"\r\n\r\n\xff\r\n' in body.data
    assert b"\r\n\r\n\xc3\xbc\r\n" in body.data and b"\r\n\r\nz\r\n" in body.data
    with open(tmp_path / "t") as file, pytest.raises(TypeError, match="binary mode"):
        encode_body(None, None, None, {"f": file})


@pytest.mark.parametrize("dumps", [None, lambda value: json.dumps(value, ensure_ascii=False)])
def test_half_surrogate_pairs_in_json(dumps):
    value = {"a": "x\ud83d", "\udead": ["\ud83d\ude00", "ü"]}
    llmpool.use_json(dumps=dumps)
    try:
        sent = encode_body(None, None, value).data
    finally:
        llmpool.use_json()
    assert json.loads(sent) == {"a": "x\ud83d", "\udead": ["😀", "ü"]}
    assert "ü".encode() in sent  # the rest stays as it is


def test_pieces_are_bounded():
    from llmpool._http.content import pieces

    sizes = [len(piece) for piece in pieces(io.BytesIO(bytes(PIECE * 2 + 1)))]
    assert sizes == [PIECE, PIECE, 1]


class Name(str):
    pass


class Level(IntEnum):
    HIGH = 3


VALUES = [
    {}, [], "", "x", 0, -1, 10**40, 1.5, 1e300, -0.0, True, None, Name("n"), Level.HIGH,
    {"a": [1, {"b": (2, 3)}], "\u4e2d": "\u6587\n\"\\\x00\x7f\u2028", 2: 2, None: 3, 1.5: 4},
    {True: False},
    OrderedDict(b=1, a=2), [[[[]]]], {Name("k"): Name("v")}, {"level": Level.HIGH},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_json_is_written_as_the_standard_library_does(value):
    wanted = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    assert encode(value) == wanted.encode()
    assert decode(encode(value)) == decode(wanted) == json.loads(wanted)


@pytest.mark.parametrize(
    "value, error, said",
    [
        (float("nan"), ValueError, "JSON compliant"),
        ({"a": object()}, TypeError, "not JSON serializable"),
        ({(1, 2): 3}, TypeError, "keys must be"),
    ],
)
def test_what_json_cannot_be(value, error, said):
    with pytest.raises(error, match=said):
        encode(value)


def test_a_circle_is_said_to_be_one():
    circle = {"a": []}
    circle["a"].append(circle)
    with pytest.raises(ValueError, match="Circular"):
        encode(circle)
    same = [1]
    assert encode([same, same]) == b"[[1],[1]]"


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "x", "{", '{"a" 1}', "[1,]", "1 2", '"a', "[1]\f", "\ufeff{}", "nul", "NaNx",
        "{}{}", '{"a": 1} x', "\u00a01",
    ],
)  # fmt: skip
def test_what_is_no_json_is_said_as_the_standard_library_does(text):
    with pytest.raises(json.JSONDecodeError) as wanted:
        json.loads(text)
    for given in (text, text.encode("utf-8")):
        if given == b"\xef\xbb\xbf{}":  # bytes may have a mark
            continue
        with pytest.raises(json.JSONDecodeError) as found:
            decode(given)
        assert str(found.value) == str(wanted.value)


@pytest.mark.parametrize("text", [" {}", "{}\n", "\r\n\t[1] \n", "1 ", " null", '"a"\n\n', "NaN"])
def test_blanks_around_json(text):
    assert repr(decode(text)) == repr(decode(text.encode())) == repr(json.loads(text))
