"""Proxies: explicit ones, those of the environment as httpx reads it, and none."""

import pytest
import servers

from llmpool import transport


@pytest.fixture
def direct():
    with servers.RawServer(servers.answer_heads) as server:
        yield server


def was_proxied(response):
    return response.content.startswith(b"GET http://")


def test_explicit_proxy_and_its_credentials(caller, proxied):
    response = caller.request("GET", "http://a.test/x", client={"proxy": proxied.url})
    assert response.content.startswith(b"GET http://a.test/x HTTP/1.1\r\n")
    url = proxied.url.replace("http://", "http://us%40er:p%3Ass@")
    for given in (url, caller.httpx.Proxy(proxied.url, auth=("us@er", "p:ss"))):
        response = caller.request("GET", "http://a.test/x", client={"proxy": given})
        assert b"Basic dXNAZXI6cDpzcw==" in response.content


def test_mounts(caller, proxied, direct):
    mounts = {"all://a.test": caller.transport_class(proxy=proxied.url), "all://b.test": None}
    client = {"mounts": mounts}
    assert was_proxied(caller.request("GET", "http://a.test/", client=client))
    assert not was_proxied(caller.request("GET", direct.url, client=client))


def test_what_has_no_counterpart(caller):
    with pytest.raises(ValueError, match="headers"):
        caller.client_class(proxy=caller.httpx.Proxy("http://127.0.0.1:1", headers={"a": "b"}))
    with pytest.raises((ValueError, NotImplementedError), match="https"):
        caller.client_class(proxy="https://127.0.0.1:1")


NO_PROXY = [
    "", "*", "localhost", "127.0.0.1", "127.0.0.0/8", "example.test", ".example.test",
    "*.example.test", "example.test,other.test", "http://example.test", "https://example.test",
    "example.test:8080", "[::1]", "::1", "EXAMPLE.test", " example.test , b.test",
    "all://example.test", "com", "ample.test",
]  # fmt: skip
URLS = [
    "http://localhost/", "http://127.0.0.1/", "http://127.0.0.2/", "http://example.test/",
    "https://example.test/", "http://www.example.test/", "http://wwwexample.test/",
    "http://example.test:8080/", "http://[::1]/", "http://other.test/", "http://b.test/",
    "https://example.com/",
]  # fmt: skip


@pytest.mark.parametrize("no_proxy", NO_PROXY)
def test_no_proxy_is_read_as_httpx_reads_it(caller, monkeypatch, no_proxy):
    """Its own clients and ours choose a proxy for the same URLs, and what they call direct is."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:11")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:12")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    theirs_class = getattr(caller.httpx, caller.client_class.__name__)
    try:
        theirs = theirs_class(verify=False)
    except caller.httpx.InvalidURL:  # "[::1]" of httpx 0.28
        with pytest.raises(caller.httpx.InvalidURL):
            caller.client_class()
        return
    ours = caller.client_class()
    assert len(ours._mounts) == len(theirs._mounts)
    for url in URLS:
        parsed = caller.httpx.URL(url)
        is_direct = theirs._transport_for_url(parsed) is theirs._transport
        found = ours._transport_for_url(parsed)
        assert (found is ours._transport) == is_direct, url
        options = found.pool._options()
        port = 11 if parsed.scheme == "http" else 12
        assert options.proxy == (b"" if is_direct else b"http://127.0.0.1:%d" % port), url
        assert options.no_proxy == b""


def test_environment_is_used_and_left(caller, monkeypatch, proxied, direct):
    monkeypatch.setenv("http_proxy", proxied.url)
    assert was_proxied(caller.request("GET", direct.url, client={"trust_env": True}))
    assert not was_proxied(caller.request("GET", direct.url, client={"trust_env": False}))
    own = {"transport": caller.transport_class(), "trust_env": True}
    assert not was_proxied(caller.request("GET", direct.url, client=own))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert not was_proxied(caller.request("GET", direct.url, client={"trust_env": True}))


def test_ways_differ_by_their_proxy():
    assert transport.way().key != transport.way(proxy="http://127.0.0.1:1").key
