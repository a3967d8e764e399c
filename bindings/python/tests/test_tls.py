"""Certificates: what is wrong with them is refused and named, what is right is accepted."""

import contextlib
import ctypes
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import servers

import llmpool
from llmpool._native import abi
from llmpool._native.library import lib


def handle(connection, _):
    servers.read_request(connection)
    servers.answer(connection, b"secret")


@pytest.mark.parametrize(
    "name, trusted, words",
    [
        ("expired", True, ("expired",)),
        ("wrong-host", True, ("mismatch", "host", "ip address", "name")),
        ("self-signed", True, ("self-signed", "self signed")),
        ("unknown", True, ("unable to get", "unknown", "issuer")),
        ("good", False, ("unable to get", "unknown", "issuer")),  # by the system's roots
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_refused(name, trusted, words, host, certificates, open_client):
    with servers.RawServer(handle, certificates.context(name)) as server:
        client = open_client(
            f"https://{host}:{server.port}",
            **({"ca_file": certificates.ca_file} if trusted else {}),
        )
        with pytest.raises(llmpool.CertificateError) as caught:
            client.post("/", content=b"x")
        assert caught.value.status == "LLMPOOL_E_TLS_VERIFY" and caught.value.unseen
        assert any(word in str(caught.value).lower() for word in words), str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_accepted_with_its_ca(host, certificates, open_client):
    with servers.RawServer(handle, certificates.context("good")) as server:
        client = open_client(f"https://{host}:{server.port}", ca_file=certificates.ca_file)
        answer = client.get("/")
        assert answer.text == "secret" and answer.http_version == "HTTP/1.1"


@pytest.mark.parametrize("name", ["expired", "wrong-host", "self-signed", "unknown"])
def test_verify_false_accepts_any(name, certificates, open_client):
    with servers.RawServer(handle, certificates.context(name)) as server:
        assert open_client(server.url, verify=False).get("/").text == "secret"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_too_old_a_protocol(certificates, open_client):
    context = certificates.context("good")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with servers.RawServer(handle, context) as server:
        client = open_client(server.url, ca_file=certificates.ca_file)
        with pytest.raises(llmpool.TLSError) as caught:
            client.get("/")
        assert type(caught.value) is llmpool.TLSError and caught.value.status == "LLMPOOL_E_TLS"
        assert "protocol" in str(caught.value).lower() or "version" in str(caught.value).lower()


def test_not_tls_at_all(nginx, open_client):
    with pytest.raises(llmpool.TLSError):
        open_client(f"https://127.0.0.1:{nginx.plain}").get("/")


def test_client_certificate(certificates, open_client):
    seen = []

    def handle_and_note(connection, _):
        seen.append(connection.getpeercert())
        handle(connection, _)

    context = certificates.context("good")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates.ca_file)
    with servers.RawServer(handle_and_note, context) as server:
        client = open_client(
            server.url, ca_file=certificates.ca_file, client_cert=certificates.pair("good")
        )
        assert client.get("/").text == "secret" and seen[0]["subject"]
        without = open_client(server.url, ca_file=certificates.ca_file)
        with pytest.raises(llmpool.TransportError):
            without.get("/")


def test_reconfigured_trust_holds_for_the_next_request(certificates, open_client):
    """A connection that was accepted under other rules does not carry it."""

    def handle_many(connection, _):
        buffer = b""
        while True:
            _, _, buffer = servers.read_request(connection, buffer)
            servers.answer(connection)

    with servers.RawServer(handle_many, certificates.context("unknown")) as server:
        client = open_client(server.url, verify=False)
        assert client.get("/").is_success and client.get("/").reused
        client.pool.configure(verify=True, ca_file=certificates.ca_file)
        with pytest.raises(llmpool.CertificateError):
            client.get("/")


@pytest.mark.parametrize("kind", ["handshake", "reset"])
def test_a_message_says_once_where_it_happened(kind, certificates, open_client):
    def handle_or_reset(connection, _):
        servers.read_request(connection)
        servers.reset(connection)

    name = "good" if kind == "reset" else "unknown"
    with servers.RawServer(handle_or_reset, certificates.context(name)) as server:
        client = open_client(server.url, ca_file=certificates.ca_file, max_retries=0)
        with pytest.raises(llmpool.TransportError) as caught:
            client.get("/")
        place = f"({server.url} at 127.0.0.1:{server.port})"
        assert str(caught.value).count(place) == 1, str(caught.value)
        assert str(caught.value).count(str(server.port)) == 2, str(caught.value)


def test_a_renewed_file_is_another_identity(certificates, open_client, tmp_path):
    """The new CA stands under the name of the old one, which must be trusted no more."""

    def handle_many(connection, _):
        buffer = b""
        while True:
            _, _, buffer = servers.read_request(connection, buffer)
            servers.answer(connection)

    file = tmp_path / "ca.pem"
    file.write_bytes(Path(certificates.ca_file).read_bytes())
    with servers.RawServer(handle_many, certificates.context("good")) as server:
        client = open_client(server.url, ca_file=str(file))
        assert client.get("/").is_success
        client.pool.configure(ca_file=str(file))
        assert client.get("/").reused  # it says what it said
        file.write_bytes((certificates.directory / "unknown-ca.pem").read_bytes())
        assert client.get("/").reused  # until configure() says otherwise
        client.pool.configure(ca_file=str(file))
        with pytest.raises(llmpool.CertificateError):
            client.get("/")


def test_no_authorities_at_all(certificates, tmp_path, run_python):
    with servers.RawServer(handle, certificates.context("good")) as server:
        script = "import sys, llmpool; llmpool.get(sys.argv[1])"
        missing, empty = str(tmp_path / "none.pem"), str(tmp_path)
        done = run_python(script, server.url, SSL_CERT_FILE=missing, SSL_CERT_DIR=empty)
        assert "CertificateError" in done.stderr and missing in done.stderr
        assert f"the directory {empty}: install ca-certificates" in done.stderr
        (tmp_path / "5ed36f99.0").write_bytes(b"")
        done = run_python(script, server.url, SSL_CERT_FILE=missing, SSL_CERT_DIR=empty)
        assert "CertificateError" in done.stderr and "install" not in done.stderr


@pytest.mark.parametrize("alpn", ["h2", "http/1.1"])
def test_bytes_are_those_on_the_socket(alpn, nginx, open_client):
    """Compared with what a relay between pool and server has passed on, TLS and all."""
    passed = {"up": 0, "down": 0}

    def pump(source, target, way):
        with contextlib.suppress(OSError):  # the other side may be gone already
            while data := source.recv(65536):
                passed[way] += len(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def relay(connection, _):
        with socket.create_connection(("127.0.0.1", nginx.tls)) as upstream:
            back = threading.Thread(target=pump, args=(upstream, connection, "down"))
            back.start()
            pump(connection, upstream, "up")
            back.join()

    with servers.RawServer(relay) as server:
        client = open_client(f"https://127.0.0.1:{server.port}", verify=False, http2=alpn == "h2")
        for _ in range(3):
            assert client.post("/small", content=bytes(50_000)).status_code
        pool = client.pool

        def counted():
            now = pool.stats()
            return {"up": now.bytes_sent, "down": now.bytes_received} == passed

        assert servers.wait_until(counted), (pool.stats(), passed)
        assert passed["down"] > 1000 and passed["up"] > 150_000
        before = pool.stats().bytes_sent
        pool.configure(http2=alpn != "h2")  # closes the connection: its last words count, too
        assert servers.wait_until(lambda: pool.stats().closed == 1)
        assert servers.wait_until(lambda: pool.stats().bytes_sent > before)


def perform(client, url, server_name=None):
    """(status, HTTP status) of a GET by the C API, which can name another TLS server."""
    request, event = abi.Request(), abi.Event()
    request.size = ctypes.sizeof(request)
    request.url, request.server_name = url.encode(), server_name
    size = ctypes.sizeof(event)
    code = lib.perform(client.pool._handle, ctypes.byref(request), ctypes.byref(event), size, None)
    if code < 0:
        return code, 0
    result = event.status, event.http_status
    lib.events_release(ctypes.byref(event), size, 1)
    return result


def test_server_name(certificates, open_client):
    """It is what the server is asked for, and what its certificate must say."""
    asked = []

    def handle_many(connection, _):
        buffer = b""
        while True:
            _, _, buffer = servers.read_request(connection, buffer)
            servers.answer(connection)

    context = certificates.context("wrong-host")
    context.sni_callback = lambda _, name, __: asked.append(name)
    with servers.RawServer(handle_many, context) as server:
        client = open_client(ca_file=certificates.ca_file)
        refused = (abi.E_TLS_VERIFY, 0)
        assert perform(client, server.url) == refused
        for _ in range(2):
            assert perform(client, server.url, b"other.example") == (0, 200)
        assert perform(client, server.url, b"another.example") == refused
        assert perform(client, server.url) == refused
        assert asked == [None, "other.example", "another.example", None]
        for name in (b"bad name", b".example", b".", b"a..b", b"a.example..", b"x" * 64, b"1.2"):
            assert perform(client, server.url, name)[0] == abi.E_INVALID_ARGUMENT, name


def test_reconfigured_ca_file_retires_what_was_verified_by_the_old(certificates, open_client):
    """Busy connections end with their answer, idle ones at once; the rest follows the new file."""
    release = threading.Event()

    def handle_some(connection, _):
        buffer = b""
        while True:
            head, _, buffer = servers.read_request(connection, buffer)
            if b" /hold" in head:
                release.wait(20)
            servers.answer(connection)

    unknown = str(certificates.directory / "unknown-ca.pem")
    with servers.RawServer(handle_some, certificates.context("good")) as server:
        client = open_client(server.url, ca_file=certificates.ca_file)
        with ThreadPoolExecutor(1) as executor:
            assert client.get("/").is_success
            held = executor.submit(client.get, "/hold")
            assert servers.wait_until(lambda: client.pool.stats().active == 1)
            assert client.get("/").is_success and client.pool.stats().opened == 2
            client.pool.configure(ca_file=unknown)
            with pytest.raises(llmpool.CertificateError):
                client.get("/")
            assert client.pool.stats().idle == 0 and client.pool.stats().in_use == 1
            release.set()
            assert held.result().is_success
        assert servers.wait_until(lambda: client.pool.stats().in_use == 0)
        assert client.pool.stats().idle == 0
        with pytest.raises(ValueError, match="ca_file"):
            client.pool.configure(ca_file="/nonexistent/ca.pem")
        client.pool.configure(ca_file=certificates.ca_file)
        assert not client.get("/").reused and client.get("/").reused
