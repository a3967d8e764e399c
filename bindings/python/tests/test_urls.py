import pytest

from llmpool import URL, InvalidURL, UnsupportedProtocol
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
    [None, {}, {"a": 1}, {"a": [1, 2]}, {"a": True, "b": None, "c": 1.5}, {"q": "a b&c=d/ü"},
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
