"""The tables of docs/leniency.md: what is read although it should not be sent, what is refused.

Run as a program it prints what other clients make of the same answers, for their columns there.
"""

import contextlib
import importlib
import re
import socket
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "leniency.md"
GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood"
H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass
class Row:
    section: str
    what: str
    here: str
    answer: bytes  # with HTTP/2: its frames after the server's SETTINGS
    is_h2: bool

    @property
    def status(self):
        """The last one in the answer: None where the row cannot be read."""
        found = re.findall(rb"HTTP/1\.\d\s+(\d{3})", self.answer)
        return int(found[-1]) if found else None

    @property
    def value(self):
        quoted = re.search('"(.*)"', self.here)
        return quoted and unescaped(quoted[1]).decode("latin-1")


def unescaped(text):
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def answer_in(cell):
    """`a` x 100, then `b`: in bytes."""
    pieces = re.findall(r"`(.*?)`(?: x (\d+))?", cell)
    return b"".join(unescaped(text) * int(count or 1) for text, count in pieces)


def h2_frames(cell):
    """Blocks of headers, `name: value` each behind a status, then the body."""
    hpack = pytest.importorskip("hpack")
    frames = pytest.importorskip("hyperframe.frame")
    ((text, count),) = re.findall(r"`(.*?)`(?: x (\d+))?", cell)
    name, value = re.match(b"(:?[^:]+): (.*)", unescaped(text), re.DOTALL).groups()
    blocks = [[(b":status", b"200"), (name, value)]]
    if name == b":status":
        blocks = [[(name, value)]] * int(count or 1)
        blocks += [[(b":status", b"200")]] if int(value) in range(100, 200) else []
    encoder, out = hpack.Encoder(), b""
    for block in blocks:
        frame = frames.HeadersFrame(1, encoder.encode(block), flags=["END_HEADERS"])
        out += frame.serialize()
    return out + frames.DataFrame(1, b"hello", flags=["END_STREAM"]).serialize()


def rows():
    found, section, template = [], "", ""
    for line in DOCUMENT.read_text("utf-8").splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif re.fullmatch("`.*@.*`", line):
            template = unescaped(line.strip("`"))
        elif re.match(r"\| .*`", line):
            what, example, here = [cell.strip(" ") for cell in line.split("|")[1:4]]
            is_h2 = section == "HTTP/2"
            answer = h2_frames(example) if is_h2 else template.replace(b"@", answer_in(example))
            found.append(Row(section, what, here, answer, is_h2))
    assert len(found) > 60
    return found


class Server:
    """Answers the first request with the row, and those that follow on its connection well."""

    def __init__(self, row):
        self.row = row
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection):
        connection.settimeout(5)
        with connection, contextlib.suppress(OSError):
            if self.row.is_h2:
                return self.serve_h2(connection)
            answers = [self.row.answer] if self.connections == 1 else []
            while request(connection):
                connection.sendall(answers.pop() if answers else GOOD)
                if self.row.here == "refused" and self.connections == 1:
                    connection.shutdown(socket.SHUT_WR)
        return None

    def serve_h2(self, connection):
        empty_settings = b"\0\0\0\4\0\0\0\0\0"
        connection.sendall(empty_settings)
        received = b""
        while b"\1" not in frame_types(received):  # HEADERS
            received += connection.recv(65536)
        connection.sendall(b"\0\0\0\4\1\0\0\0\0" + self.row.answer)
        while connection.recv(65536):
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def request(connection):
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(65536)
        if not data:
            return False
        head += data
    return True


def frame_types(received):
    types, at = b"", len(H2_PREFACE)
    while at + 9 <= len(received):
        types += received[at + 3 : at + 4]
        at += 9 + int.from_bytes(received[at : at + 3], "big")
    return types


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.section}: {row.what}")
def test_row(row, open_client):
    import llmpool

    with Server(row) as server:
        client = open_client(server.url, http1=not row.is_h2, max_retries=0)
        if row.here == "refused":
            with pytest.raises((llmpool.RemoteProtocolError, llmpool.ReadError)):
                client.get("/")
            return
        answer = client.get("/")
        assert answer.content == b"hello"
        if row.is_h2:
            status = re.search(r":status: ([6-9]\d\d)", row.what + repr(row.answer))
            assert status is None or answer.status_code == int(status[1])
        else:
            assert answer.status_code == row.status
        if row.value is not None:
            assert answer.headers["x"] == row.value
        if row.is_h2:
            return
        assert client.get("/").text == "good"
        kept = server.connections == 1
        assert kept == (not row.here.endswith(", closed"))


# ---- what others make of it


def with_httpx(url, is_h2):
    import httpx

    with httpx.Client(timeout=3, trust_env=False, http1=not is_h2, http2=is_h2) as client:
        answer = client.get(url)
        return answer.content, answer.headers.get("x")


def with_requests(url, _):
    import requests

    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(url, timeout=3)
        return answer.content, answer.headers.get("x")


def with_http_client(url, _):
    import http.client

    connection = http.client.HTTPConnection(url.split("/")[2], timeout=3)
    connection.request("GET", "/")
    answer = connection.getresponse()
    return answer.read(), answer.getheader("x")


def with_aiohttp(url, _):
    import asyncio

    import aiohttp

    async def get():
        limit = aiohttp.ClientTimeout(3)
        async with aiohttp.ClientSession(timeout=limit) as session, session.get(url) as answer:
            return await answer.read(), answer.headers.get("x")

    return asyncio.run(get())


def with_libcurl(url, is_h2):
    import io

    import pycurl

    curl, body, lines = pycurl.Curl(), io.BytesIO(), []
    curl.setopt(pycurl.URL, url)
    curl.setopt(pycurl.PROXY, "")
    curl.setopt(pycurl.TIMEOUT, 3)
    curl.setopt(pycurl.WRITEDATA, body)
    curl.setopt(pycurl.HEADERFUNCTION, lines.append)
    if is_h2:
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE)
    curl.perform()
    value = [line[2:].strip(b" \t\r\n") for line in lines if line.lower().startswith(b"x:")]
    return body.getvalue(), value[-1].decode("latin-1") if value else None


def what_others_make_of(row):
    others = [with_httpx, with_aiohttp, with_requests, with_http_client, with_libcurl]
    for read in [with_httpx, with_libcurl] if row.is_h2 else others:
        with Server(row) as server:
            try:
                body, value = read(server.url, row.is_h2)
            except Exception:
                yield "-"
                continue
        if body != b"hello":
            yield "another body"
        elif row.value is not None and value != row.value:
            shown = "" if value is None else value.encode("unicode_escape").decode()
            yield f'"{shown}"'
        else:
            yield "read"


if __name__ == "__main__":
    for module in ("httpx", "aiohttp", "requests", "pycurl"):
        found = importlib.import_module(module)
        print(module, getattr(found, "__version__", None) or found.version)
    print("http.client", sys.version.split()[0])
    for each in rows():
        print(f"{each.section} | {each.what} |", " | ".join(what_others_make_of(each)), flush=True)
