import os
import sys
import unicodedata
from enum import Enum

import pytest

from llmpool import URL, Client, InvalidURL, UnsupportedProtocol
from llmpool._http import idna as our_idna
from llmpool._http.content import encode_body
from llmpool._http.urls import merge_params, params_list, parse_base, redirected, resolve

BASES = ["https://h.example", "https://h.example/", "https://h.example/v1", "http://h:8080/a/b/"]
PATHS = ["", "/", "x", "/x", "x/", "/x/y?q=1", "?q=1", "x%20y", "x y", "ü", "x?q=a b",
         "https://other.example/z"]  # fmt: skip


def peer():
    try:
        import httpx
    except ImportError:
        httpx = pytest.importorskip("httpx2")
    return httpx


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("path", PATHS)
def test_joined_as_httpx_does(base, path):
    httpx = peer()
    expected = str(httpx.Client(base_url=base, trust_env=False).build_request("GET", path).url)
    assert resolve(parse_base(base), path, None) == expected


@pytest.mark.parametrize(
    "params",
    [None, {"a": 1}, {"a": [1, 2]}, {"a": True, "b": None, "c": 1.5}, {"q": "a b&c=d/ü"},
     [("a", "1"), ("a", "2")], "a=1&b=2"],
)  # fmt: skip
@pytest.mark.parametrize("own", [None, {"k": "v"}])
@pytest.mark.parametrize("url", ["https://h.example/p", "https://h.example/p?old=1"])
def test_params_as_httpx_does(params, own, url):
    httpx = peer()
    client = httpx.Client(params=own, trust_env=False)
    expected = str(client.build_request("GET", url, params=params).url)
    ours = resolve("", url, merge_params(params_list(own), params))
    assert ours.replace("%2F", "/") == expected.replace("%2F", "/")


@pytest.mark.parametrize("nothing", [{}, [], "", None])
def test_no_params_leave_the_query_alone(nothing):
    assert resolve("", "https://h/p?old=1", merge_params([], nothing)) == "https://h/p?old=1"
    client = Client(base_url="https://h/v1", params=nothing)
    assert client._resolve("p?old=1", nothing) == b"https://h/v1/p?old=1"
    own = merge_params(params_list({"k": "v"}), nothing)
    assert resolve("", "https://h/p?old=1", own) == "https://h/p?k=v"


class Model(str, Enum):
    SMALL = "gpt-small"


class Size(Enum):
    TWO = 2


@pytest.mark.parametrize(
    "value, expected",
    [
        (Model.SMALL, "gpt-small"), (Size.TWO, "2"), (b"a b", "a+b"), (b"\xff", "%FF"),
        ("\ud83d\ude00", "%F0%9F%98%80"), ("a\ud800", "a%EF%BF%BD"), ([Model.SMALL, b"x"], None),
    ],
)  # fmt: skip
def test_values_as_the_better_of_the_others_send_them(value, expected):
    expected = "q=gpt-small&q=x" if expected is None else f"q={expected}"
    assert resolve("", "https://h/", merge_params([], {"q": value})) == f"https://h/?{expected}"
    assert encode_body(None, {"q": value}, None).data == expected.encode()
    assert params_list({Model.SMALL: 1, b"n": 2}) == [("gpt-small", "1"), (b"n", "2")]


@pytest.mark.parametrize(
    "url, error",
    [
        ("/path", UnsupportedProtocol),
        ("ftp://h/", UnsupportedProtocol),
        ("https://", InvalidURL),
        ("https://user:secret@h/", InvalidURL),
        ("https://h/\r\nx", InvalidURL),
        ("https://h/a\0b", InvalidURL),
        ("https://h:port/", InvalidURL),
        ("https://[::1/", InvalidURL),
        ("https://h:secret/", InvalidURL),
        ("https://secret:x@h:99999/", InvalidURL),
        ("https://secret\u2100@h/", InvalidURL),
        ("https://h/\ud800", InvalidURL),
        ("https://\ud800/", InvalidURL),
    ],
)
def test_refused(url, error):
    with pytest.raises(error) as caught:
        resolve("", url, None)
    assert "secret" not in str(caught.value)


def test_a_url_is_not_bytes():
    with pytest.raises(TypeError):
        resolve("", b"https://h/", None)


def test_base_with_query():
    with pytest.raises(InvalidURL):
        parse_base("https://h/?a=1")


def test_parts():
    url = URL("https://H.example:8443/a%20b?x=1#f")
    assert (url.scheme, url.host, url.port) == ("https", "h.example", 8443)
    assert (url.path, url.query, url.fragment) == ("/a%20b", "x=1", "f")
    assert url.origin == "https://h.example:8443"
    assert URL("http://[::1]/").origin == "http://[::1]:80"
    assert URL("https://h:443/").port is None
    assert url == str(url)


def test_international_host():
    assert resolve("", "https://bücher.example:8443/", None) == (
        "https://xn--bcher-kva.example:8443/"
    )


# By IDNA 2003 the first four are fass.de, xn--nxasmq6b.com, and two without the joiner.
HOSTS = {
    "faß.de": "xn--fa-hia.de",
    "βόλος.com": "xn--nxasmm1c.com",
    "ශ්\u200dරී.com": "xn--10cl1a0b660p.com",
    "نامه\u200cای.com": "xn--mgba3gch31f060k.com",  # noqa: RUF001
    "BÜCHER.example": "xn--bcher-kva.example",
    "日本語。jp": "xn--wgv71a119e.jp",
}


@pytest.mark.parametrize("host, expected", HOSTS.items())
def test_hosts_as_browsers_ask_for_them(host, expected, monkeypatch):
    pytest.importorskip("idna")
    assert resolve("", f"https://{host}/", None) == f"https://{expected}/"
    monkeypatch.setitem(sys.modules, "idna", None)  # not installed
    if set(host) & set("ßς\u200c\u200d"):
        with pytest.raises(InvalidURL, match=r"libllmpool\[idna\].*xn--"):
            resolve("", f"https://{host}/", None)
    else:
        assert resolve("", f"https://{host}/", None) == f"https://{expected}/"
    assert resolve("", f"https://{expected}/", None) == f"https://{expected}/"


def test_without_the_package_no_letter_leads_to_another_host():
    idna = pytest.importorskip("idna")
    for number in range(0x80, 0x30000, 1 if os.environ.get("LLMPOOL_LONG_TESTS") else 23):
        letter = chr(number)
        if unicodedata.category(letter) in ("Cn", "Cs", "Co"):
            continue
        for host in (f"a{letter}b.example", f"{letter}.example"):
            try:
                ours = our_idna._by_codec(host)
                right = idna.encode(host, uts46=True).decode("ascii")
            except (InvalidURL, UnicodeError):  # refused by one of them: no other host is asked
                continue
            assert ours == right, hex(number)


@pytest.mark.parametrize("host", ["a..b.ü", "ü" * 64, "ü b", "a/ü", "☃\u0378.example", "ab\u202ec"])
@pytest.mark.parametrize("package", [True, False])
def test_hosts_refused(host, package, monkeypatch):
    if not package:
        monkeypatch.setitem(sys.modules, "idna", None)
    with pytest.raises(InvalidURL):
        our_idna.to_ascii(host)


@pytest.mark.parametrize(
    "url, says",
    [
        ("http://[fe80::1%25eth0]/", "fd00::/8"),
        ("http://[fe80::1%eth0]:80/", "fd00::/8"),
        ("unix:///var/run/x.sock", "socat"),
        ("http+unix://%2Fvar%2Frun%2Fx.sock/p", "socat"),
        ("localhost:8000/v1", "https://localhost:8000/v1"),
    ],
)
def test_what_is_not_supported_says_the_way_round(url, says):
    for use in (lambda: resolve("", url, None), lambda: parse_base(url)):
        with pytest.raises((InvalidURL, UnsupportedProtocol)) as caught:
            use()
        assert says in str(caught.value)


@pytest.mark.parametrize(
    "location, expected",
    [
        ("/x", "https://h/x"),
        ("x", "https://h/a/x"),
        ("//other/x", "https://other/x"),
        ("http://other/x y", "http://other/x%20y"),
        ("?q=1", "https://h/a/b?q=1"),
    ],
)
def test_redirected(location, expected):
    assert redirected(URL("https://h/a/b"), location) == expected


def test_redirected_elsewhere():
    with pytest.raises(UnsupportedProtocol):
        redirected(URL("https://h/"), "file:///etc/passwd")
    with pytest.raises(InvalidURL):
        redirected(URL("https://h/"), "https://h/\r\nx")
