"""Proxies: real ones (tinyproxy, microsocks), from options and from the environment."""

import contextlib
import socket
import threading

import pytest
import servers

import llmpool


class Counted:
    """Passes what comes on to a port and counts the connections: those that a proxy got."""

    def __init__(self, target):
        self.target = target
        self.server = servers.RawServer(self._serve)

    @property
    def port(self):
        return self.server.port

    @property
    def connections(self):
        return self.server.connections

    def _serve(self, inner, _):
        with socket.create_connection(("127.0.0.1", self.target), timeout=20) as outer:
            back = threading.Thread(target=self._pass, args=(outer, inner), daemon=True)
            back.start()
            self._pass(inner, outer)
            back.join()

    @staticmethod
    def _pass(source, sink):
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


class Proxy:
    def __init__(self, directory, scheme, user=None, password=None):
        self.directory, self.scheme = directory, scheme
        self.own_port = servers.free_port()
        self.user, self.password = user, password

    def command(self):
        if self.scheme != "http":
            named = ("-u", self.user, "-P", self.password) if self.user else ()
            return ("microsocks", "-i", "127.0.0.1", "-p", str(self.own_port), *named)
        lines = [f"Port {self.own_port}", "Listen 127.0.0.1", "Timeout 60", "MaxClients 100"]
        if self.user:
            lines.append(f"BasicAuth {self.user} {self.password}")
        (self.directory / "tinyproxy.conf").write_text("\n".join(lines) + "\n")
        return ("tinyproxy", "-d", "-c", str(self.directory / "tinyproxy.conf"))

    @contextlib.contextmanager
    def run(self):
        with servers.running(self.command(), self.own_port, self.directory):
            self.counted = Counted(self.own_port)
            with self.counted.server:
                yield self

    @property
    def connections(self):
        return self.counted.connections

    def url(self, user=None, password=None, host="127.0.0.1", scheme=None):
        user = self.user if user is None else user
        password = self.password if password is None else password
        credentials = f"{user}:{password}@" if user else ""
        return f"{scheme or self.scheme}://{credentials}{host}:{self.counted.port}"


@pytest.fixture(params=["http", "socks5", "socks5h"])
def proxy(request, tmp_path):
    with Proxy(tmp_path, request.param).run() as running:
        yield running


@pytest.fixture(params=["http", "socks5", "socks5h"])
def closed_proxy(request, tmp_path):
    """One that asks for credentials."""
    with Proxy(tmp_path, request.param, "carol", "s3cret-word").run() as running:
        yield running


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("named", ["127.0.0.1", "localhost"])
def test_plain_and_tls(proxy, host, named, nginx, certificates, open_client):
    client = open_client(proxy=proxy.url(host=named), ca_file=certificates.ca_file)
    plain = client.get(f"http://{host}:{nginx.plain}/small")
    assert plain.is_success and plain.http_version == "HTTP/1.1"
    again = client.get(f"http://{host}:{nginx.plain}/small?again")
    # tinyproxy closes after each answer in plain HTTP.
    assert again.is_success and again.reused == (proxy.scheme != "http")
    secure = client.get(f"https://{host}:{nginx.tls}/small")
    assert secure.content == plain.content == b"x" * 200 and secure.http_version == "HTTP/2"
    assert client.post(f"https://{host}:{nginx.tls}/early", content=b"x" * 100_000).text == "early"
    # Each dial is one connection to the proxy, and nobody went around it.
    expected = 3 if proxy.scheme == "http" else 2
    assert proxy.connections == client.pool.stats().opened == expected


def test_http2_without_tls_is_tunnelled(proxy, tmp_path_factory, open_client):
    server = servers.Nghttpd(tmp_path_factory.mktemp("h2c"), None)
    with server.run():
        client = open_client(server.url, proxy=proxy.url(), http1=False)
        assert client.get("/small").http_version == "HTTP/2" and proxy.connections == 1


def test_many_at_once(proxy, nginx, certificates, open_client, at_once):
    limits = llmpool.Limits(max_connections=8)  # tinyproxy needs one for each plain request
    client = open_client(proxy=proxy.url(), ca_file=certificates.ca_file, limits=limits)
    for url in (nginx.url, nginx.tls_url):
        assert set(at_once(lambda _, url=url: client.get(url + "/small").status_code, 100)) == {200}
    expected = 108 if proxy.scheme == "http" else 16
    assert client.pool.stats().opened == proxy.connections <= expected


def test_right_credentials(closed_proxy, nginx, certificates, open_client):
    client = open_client(proxy=closed_proxy.url(), ca_file=certificates.ca_file)
    assert client.get(nginx.url + "/small").is_success
    assert client.get(nginx.tls_url + "/small").is_success
    escaped = closed_proxy.url().replace("word", "%77ord")
    assert open_client(proxy=escaped).get(nginx.url + "/small").is_success


@pytest.mark.parametrize(
    "user, password", [("carol", "wr0ng-one"), ("mallory", "wr0ng-one"), ("", "")]
)
def test_wrong_credentials(user, password, closed_proxy, nginx, certificates, open_client):
    client = open_client(proxy=closed_proxy.url(user, password), ca_file=certificates.ca_file)
    for url in (nginx.url, nginx.tls_url):
        if closed_proxy.scheme == "http" and url == nginx.url and user:
            # tinyproxy says 401 where 407 is meant: that might as well be the origin's.
            assert client.get(url + "/small").status_code == 401
            continue
        with pytest.raises(llmpool.ProxyError) as caught:
            client.get(url + "/small")
        assert caught.value.status == "LLMPOOL_E_PROXY" and caught.value.unseen
        text = str(caught.value)
        assert any(word in text for word in ("401", "407", "credentials")), text
        assert "wr0ng-one" not in text and "mallory" not in text, text


def test_credentials_refused_in_plain_http(open_client):
    def handle(connection, _):
        servers.read_request(connection)
        servers.answer(connection, status=b"407 Proxy Authentication Required")

    with servers.RawServer(handle) as server:
        client = open_client(proxy=f"http://carol:s3cret@127.0.0.1:{server.port}")
        with pytest.raises(llmpool.ProxyError) as caught:
            client.post("http://example.test/", content=b"x")
        assert caught.value.unseen and "407" in str(caught.value) and server.connections == 1
        # Without a proxy it is an answer like any other.
        assert open_client(proxy="").get(server.url).status_code == 407


def test_nobody_listens(nginx, certificates, open_client):
    for scheme in ("http", "socks5", "socks5h"):
        url = f"{scheme}://carol:s3cret-word@127.0.0.1:{servers.free_port()}"
        client = open_client(proxy=url, ca_file=certificates.ca_file)
        for target in (nginx.url, nginx.tls_url):
            with pytest.raises(llmpool.ProxyError) as caught:
                client.get(target + "/small")
            assert "refused" in str(caught.value) and "s3cret" not in str(caught.value)


def test_origin_behind_the_proxy_refuses(proxy, open_client):
    client = open_client(proxy=proxy.url())
    with pytest.raises(llmpool.ProxyError):
        client.get(f"https://127.0.0.1:{servers.free_port()}/")


def test_unknown_names(proxy, open_client):
    """Whose name is whose to resolve: by CONNECT and socks5h the origin's is the proxy's."""
    client = open_client(proxy=proxy.url())
    expected = llmpool.ResolveError if proxy.scheme == "socks5" else llmpool.ProxyError
    with pytest.raises(expected):
        client.get("https://nowhere.invalid/", timeout=20)
    other = open_client(proxy=f"{proxy.scheme}://nowhere.invalid:3128")
    with pytest.raises(llmpool.ResolveError):
        other.get("http://127.0.0.1:1/", timeout=20)


def test_a_proxy_that_says_nothing_and_one_that_talks_nonsense(open_client):
    def nonsense(connection, number):
        connection.recv(65536)
        connection.sendall(b"\xff" * 64)

    def silent(connection, _):
        while connection.recv(65536):
            pass

    for scheme in ("http", "socks5", "socks5h"):
        with servers.RawServer(silent) as mute:
            client = open_client(proxy=f"{scheme}://127.0.0.1:{mute.port}")
            timeout = llmpool.Timeout(20.0, connect=0.3)
            with pytest.raises(llmpool.ConnectTimeout):
                client.get("https://127.0.0.1:1/", timeout=timeout)
        with servers.RawServer(nonsense) as server:
            client = open_client(proxy=f"{scheme}://127.0.0.1:{server.port}")
            with pytest.raises(llmpool.TransportError):
                client.get("https://127.0.0.1:1/")


def test_what_a_plain_proxy_is_sent(open_client):
    """Absolute form, and credentials that go nowhere but to the proxy."""
    heads = []

    def handle(connection, _):
        buffer = b""
        while True:
            head, buffer = servers.read_head(connection, buffer)
            heads.append(head)
            servers.answer(connection, headers=b"connection: keep-alive\r\n")

    with servers.RawServer(handle) as server:
        client = open_client(proxy=f"http://ca%40rol:s3cret@127.0.0.1:{server.port}")
        client.get("http://Example.test/a?b=c")
        client.get("http://example.test:8080")
        assert client.get("http://example.test:8080/again").reused
        client.get(f"http://127.0.0.1:{server.port}/direct?x")
        client.pool.configure(no_proxy="127.0.0.1")
        client.get(f"http://127.0.0.1:{server.port}/direct?x")
    lines = [head.split(b"\r\n") for head in heads]
    assert [line[0].lower() for line in lines] == [
        b"get http://example.test/a?b=c http/1.1",
        b"get http://example.test:8080/ http/1.1",
        b"get http://example.test:8080/again http/1.1",
        b"get http://127.0.0.1:%d/direct?x http/1.1" % server.port,
        b"get /direct?x http/1.1",
    ]
    named = [[line for line in head if line.lower().startswith(b"proxy-auth")] for head in lines]
    assert named == [[b"Proxy-Authorization: Basic Y2FAcm9sOnMzY3JldA=="]] * 4 + [[]]


@pytest.mark.parametrize(
    "no_proxy, direct",
    [
        ("*", True), ("localhost", True), ("LOCALHOST", True), (".localhost", True),
        ("other, localhost", True), ("other localhost", True), ("host", False), ("calhost", False),
        ("a.localhost", False), ("localhost:{port}", True), ("localhost:1", False),
        ("127.0.0.1", False), ("", False),
    ],
)  # fmt: skip
def test_no_proxy(no_proxy, direct, nginx, open_client):
    dead = f"http://127.0.0.1:{servers.free_port()}"
    client = open_client(proxy=dead, no_proxy=no_proxy.format(port=nginx.plain))
    if direct:
        assert client.get(f"http://localhost:{nginx.plain}/small").is_success
    else:
        with pytest.raises(llmpool.ProxyError):
            client.get(f"http://localhost:{nginx.plain}/small")


@pytest.mark.parametrize(
    "no_proxy, direct",
    [
        ("127.0.0.1", True), ("127.0.0.0/8", True), ("127.0.0.1/32", True), ("126.0.0.0/7", True),
        ("0.0.0.0/0", True), ("127.0.0.2", False), ("127.0.1.0/24", False), ("1", False),
        ("0.0.1", False), ("127.0.0.1:{port}", True), ("127.0.0.1:1", False), ("::1", False),
        ("::/0", False), ("127.0.0.1/33", False), ("127.0.0.0/x", False),
    ],
)  # fmt: skip
def test_no_proxy_for_addresses(no_proxy, direct, nginx, open_client):
    dead = f"http://127.0.0.1:{servers.free_port()}"
    client = open_client(nginx.url, proxy=dead, no_proxy=no_proxy.format(port=nginx.plain))
    if direct:
        assert client.get("/small").is_success
    else:
        with pytest.raises(llmpool.ProxyError):
            client.get("/small")


ENVIRONMENT = """
import sys, llmpool
llmpool.configure(ca_file=sys.argv[1])
for url in sys.argv[2:]:
    try: print(llmpool.Client().get(url).status_code)
    except llmpool.HTTPError as error: print(error.status, error)
"""


def outcomes(run_python, certificates, nginx, **environment):
    done = run_python(
        ENVIRONMENT, certificates.ca_file, nginx.url + "/small", nginx.tls_url + "/small",
        **environment,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    return [line.split()[0].replace("LLMPOOL_", "") for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    "names, plain, tls",
    [
        (("http_proxy",), "E_PROXY", "200"),
        (("HTTP_PROXY",), "200", "200"),  # a CGI program's is its client's
        (("https_proxy",), "200", "E_PROXY"),
        (("HTTPS_PROXY",), "200", "E_PROXY"),
        (("all_proxy",), "E_PROXY", "E_PROXY"),
        (("ALL_PROXY",), "E_PROXY", "E_PROXY"),
        (("all_proxy", "no_proxy=127.0.0.1"), "200", "200"),
        (("all_proxy", "NO_PROXY=127.0.0.0/8"), "200", "200"),
        (("all_proxy", "no_proxy=", "NO_PROXY=*"), "E_PROXY", "E_PROXY"),
        (("all_proxy", "http_proxy="), "200", "E_PROXY"),
    ],
)
def test_environment(names, plain, tls, run_python, certificates, nginx):
    dead = f"http://carol:s3cret@127.0.0.1:{servers.free_port()}"
    variables = dict(name.split("=") if "=" in name else (name, dead) for name in names)
    assert outcomes(run_python, certificates, nginx, **variables) == [plain, tls]


def test_environment_leads_through_a_proxy(proxy, run_python, certificates, nginx):
    assert outcomes(run_python, certificates, nginx, all_proxy=proxy.url()) == ["200", "200"]
    assert proxy.connections == 2


def test_environment_that_cannot_be_followed(run_python, nginx):
    """The shared pool says so at use, and can be told otherwise."""
    script = """
import sys, llmpool
client = llmpool.Client()
for _ in range(2):
    try: client.get(sys.argv[1])
    except Exception as error: print(error)
try: llmpool.Pool()
except Exception as error: print(error)
llmpool.configure(proxy="")
print(client.get(sys.argv[1]).status_code)
"""
    for url in ("https://u:s3cret@127.0.0.1:1", "nonsense s3cret"):
        done = run_python(script, nginx.url + "/small", http_proxy=url)
        lines = done.stdout.splitlines()
        assert lines[-1] == "200" and len(lines) == 4, done.stdout + done.stderr
        assert all("proxy (from http_proxy)" in line for line in lines[:3]), lines
        assert "s3cret" not in done.stdout


@pytest.mark.parametrize(
    "proxy, error",
    [
        ("https://127.0.0.1:3128", "proxy"), ("ftp://127.0.0.1", "proxy"), ("http://", "proxy"),
        ("http://a b", "proxy"), ("http://127.0.0.1:0", "port"), ("http://127.0.0.1:99999", "port"),
        ("http://user:p%zz@127.0.0.1", "credentials"), ("socks5://s3cret:s3cret@:1", "host"),
    ],
)  # fmt: skip
def test_refused_options(proxy, error, open_pool):
    with pytest.raises((ValueError, NotImplementedError)) as caught:
        open_pool(proxy=proxy)
    assert "proxy" in str(caught.value) and error in str(caught.value)
    assert "s3cret" not in str(caught.value) and "p%zz" not in str(caught.value)


def test_reconfigured_in_use(proxy, nginx, certificates, open_client):
    """Nothing rides a connection of the other way, in either direction."""
    client = open_client(proxy="", ca_file=certificates.ca_file)
    urls = (nginx.tls_url + "/small", nginx.tls_url.replace("127.0.0.1", "localhost") + "/small")

    def both():
        return [client.get(url).reused for url in urls]

    assert both() == [False, False] and both() == [True, True] and proxy.connections == 0
    client.pool.configure(proxy=proxy.url())
    assert both() == [False, False] and both() == [True, True] and proxy.connections == 2
    client.pool.configure(no_proxy="localhost")  # other rules: those that they spare dial anew too
    assert both() == [False, False] and proxy.connections == 3
    client.pool.configure(proxy="")
    assert both() == [False, False] and both() == [True, True] and proxy.connections == 3
    stats = client.pool.stats()
    assert stats.opened == 8 and stats.idle == 2 and stats.closed == 6


def test_reconfigured_with_requests_in_flight(proxy, open_client, at_once):
    release = threading.Event()

    def handle(connection, _):
        servers.read_request(connection)
        release.wait(20)
        servers.answer(connection, headers=b"connection: close\r\n")

    with servers.RawServer(handle) as server:
        client = open_client(server.url, proxy="")

        def turn(_):
            assert servers.wait_until(lambda: client.pool.stats().active == 10)
            client.pool.configure(proxy=proxy.url())
            release.set()

        results = at_once(lambda i: turn(i) if i == 10 else client.get("/").text, 11)
        assert results == ["ok"] * 10 + [None] and proxy.connections == 0
        assert client.get("/").text == "ok" and proxy.connections == 1
