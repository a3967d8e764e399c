"""HTTP/2: one connection for everything, and what a server may do to a stream."""

import threading
import time

import pytest
import servers

import llmpool

h2_connection = pytest.importorskip("h2.connection")
import h2.config  # noqa: E402
import h2.errors  # noqa: E402
import h2.events  # noqa: E402
import h2.exceptions  # noqa: E402


@pytest.fixture
def over_h2(certificates, open_client):
    def open_(url, **more):
        tls = {"ca_file": certificates.ca_file} if url.startswith("https") else {"http1": False}
        return open_client(url, timeout=30, **tls, **more)

    return open_


def all_good(client, results, body):
    assert len(results) == 1000
    assert {(answer.status_code, answer.http_version) for answer in results} == {(200, "HTTP/2")}
    assert {answer.content for answer in results} == {body}
    assert len({answer.connection_id for answer in results}) == 1
    stats = client.pool.stats()
    assert (stats.succeeded, stats.failed, stats.opened) == (1000, 0, 1)
    assert stats.tls_handshakes == 1 and stats.reused >= 900


def test_a_thousand_to_nginx(tmp_path, certificates, over_h2, at_once):
    server = servers.Nginx(tmp_path, certificates)  # whose connections are of this client alone
    with server.run():
        client = over_h2(server.tls_url)
        with servers.Watch(server.tls) as watch:
            results = at_once(lambda _: client.get("/small"), 1000)
    all_good(client, results, b"x" * 200)
    assert watch.most == 1


def test_a_thousand_to_nghttpd(tmp_path, certificates, over_h2, at_once):
    server = servers.Nghttpd(tmp_path, certificates)
    with server.run():
        client = over_h2(server.url)
        with servers.Watch(server.port) as watch:
            results = at_once(lambda _: client.get("/small"), 1000)
    all_good(client, results, b"x" * 200)
    assert watch.most == 1


def test_a_thousand_answered_before_the_body_is_read_by_nginx(nginx, over_h2, at_once):
    client = over_h2(nginx.tls_url)
    body = bytes(6_000)
    all_good(client, at_once(lambda _: client.post("/early", content=body), 1000), b"early")


def test_nginx_takes_unread_bodies_for_a_flood(nginx, over_h2, at_once):
    """After 8 MiB of them it says GOAWAY, with streams in flight: they are sent again."""
    client = over_h2(nginx.tls_url)
    body = bytes(20_000)
    results = at_once(lambda _: client.post("/early", content=body), 1000)
    assert {answer.content for answer in results} == {b"early"}
    stats = client.pool.stats()
    assert (stats.succeeded, stats.failed) == (1000, 0) and 2 <= stats.opened <= 4


def test_a_thousand_answered_before_the_body_is_read_by_nghttpd(
    tmp_path, certificates, over_h2, at_once
):
    server = servers.Nghttpd(tmp_path, certificates, "--early-response")
    body = bytes(20_000)
    with server.run():
        client = over_h2(server.url)
        all_good(client, at_once(lambda _: client.post("/small", content=body), 1000), b"x" * 200)


def test_without_tls(tmp_path, over_h2, at_once):
    server = servers.Nghttpd(tmp_path, None)
    large = (tmp_path / "large").read_bytes()
    with server.run():
        client = over_h2(server.url)
        results = at_once(lambda _: client.get("/large"), 100, 16)
        assert {answer.content for answer in results} == {large}
        assert client.pool.stats().opened == 1


class H2Server(servers.RawServer):
    """script(server, connection, stream, event) plays each request whose head has come."""

    def __init__(self, script, context=None, wait_for_body=True):
        super().__init__(self._play, context)
        self.script = script
        self.wait_for_body = wait_for_body
        self.header_limit = 1 << 16
        self.requests = []
        self.events = []
        self.lock = threading.Lock()

    def _play(self, sock, number):
        config = h2.config.H2Configuration(client_side=False, validate_inbound_headers=True)
        connection = h2_connection.H2Connection(config)
        connection.decoder.max_header_list_size = self.header_limit
        connection.initiate_connection()
        sock.sendall(connection.data_to_send())
        started = h2.events.StreamEnded if self.wait_for_body else h2.events.RequestReceived
        while True:
            data = sock.recv(65536)
            if not data:
                return
            try:
                events = connection.receive_data(data)
            except h2.exceptions.ProtocolError as error:
                if "ConnectionState.CLOSED" not in str(error):
                    raise
                continue  # after our GOAWAY h2 takes nothing more, not even what was under way
            for event in events:
                self.events.append(event)
                if isinstance(event, h2.events.RequestReceived):
                    self.requests.append(event)
                if isinstance(event, h2.events.DataReceived):
                    connection.acknowledge_received_data(
                        event.flow_controlled_length, event.stream_id
                    )
                if isinstance(event, started):
                    self.script(self, connection, event.stream_id, sock)
            sock.sendall(connection.data_to_send())


OK = [(":status", "200")]


def test_early_answer_and_reset_without_error(over_h2):
    """A complete answer, then RST_STREAM(NO_ERROR): the rest of the body is not wanted."""

    def script(server, connection, stream, sock):
        connection.send_headers(stream, OK)
        connection.send_data(stream, b"enough", end_stream=True)
        connection.reset_stream(stream, h2.errors.ErrorCodes.NO_ERROR)

    with H2Server(script, wait_for_body=False) as server:
        client = over_h2(server.url)
        for _ in range(50):
            answer = client.post("/", content=bytes(500_000))
            assert answer.text == "enough" and answer.attempts == 1
        assert server.connections == 1 and len(server.requests) == 50
        assert client.pool.stats().failed == 0


@pytest.mark.parametrize("cuts", [[1], [500], [999], [1, 2, 500]])
def test_a_body_in_one_frame_that_comes_in_pieces(cuts, over_h2):
    """The frame says at once that it is the last, before all of it has come."""
    body = bytes(range(250)) * 4

    def script(server, connection, stream, sock):
        connection.send_headers(stream, OK)
        connection.send_data(stream, body, end_stream=True)
        data = connection.data_to_send()
        start = len(data) - len(body)
        for begin, end in zip([-start, *cuts], [*cuts, len(body)]):
            sock.sendall(data[start + begin : start + end])
            time.sleep(0.03)

    with H2Server(script) as server:
        client = over_h2(server.url)
        for _ in range(3):
            assert client.post("/", content=b"x", headers={"X-Upper": "Kept"}).content == body
        assert (b"x-upper", b"Kept") in [tuple(field) for field in server.requests[0].headers]


def reset_mid_body(server, connection, stream, sock):
    connection.send_headers(stream, OK)
    connection.send_data(stream, b"half")
    sock.sendall(connection.data_to_send())
    connection.reset_stream(stream, h2.errors.ErrorCodes.INTERNAL_ERROR)


def reset_without_error_mid_body(server, connection, stream, sock):
    connection.send_headers(stream, OK)
    connection.send_data(stream, b"half")
    connection.reset_stream(stream, h2.errors.ErrorCodes.NO_ERROR)


def goaway_mid_body(server, connection, stream, sock):
    connection.send_headers(stream, OK)
    connection.send_data(stream, b"half")
    connection.close_connection(last_stream_id=stream)
    sock.sendall(connection.data_to_send())
    sock.close()


def goaway_and_reset_mid_body(server, connection, stream, sock):
    connection.send_headers(stream, OK)
    connection.send_data(stream, b"half")
    connection.reset_stream(stream, h2.errors.ErrorCodes.NO_ERROR)
    connection.close_connection(last_stream_id=stream)
    sock.sendall(connection.data_to_send())
    sock.close()


def close_mid_body(server, connection, stream, sock):
    connection.send_headers(stream, OK)
    connection.send_data(stream, b"half")
    sock.sendall(connection.data_to_send())
    sock.close()


def short_of_its_length(server, connection, stream, sock):
    connection.send_headers(stream, [*OK, ("content-length", "100")])
    connection.send_data(stream, b"half", end_stream=True)


@pytest.mark.parametrize(
    "script",
    [reset_mid_body, reset_without_error_mid_body, goaway_mid_body, goaway_and_reset_mid_body,
     close_mid_body, short_of_its_length],
)  # fmt: skip
def test_a_truncated_answer_is_never_success(script, over_h2):
    with H2Server(script) as server:
        with pytest.raises((llmpool.ReadError, llmpool.RemoteProtocolError)) as caught:
            over_h2(server.url).post("/", content=b"x")
        assert not caught.value.unseen
        assert len(server.requests) == 1


def test_what_the_server_provably_did_not_see_is_sent_again(over_h2):
    """REFUSED_STREAM, and streams above the last of a GOAWAY (RFC 9113 8.7)."""
    calls = []

    def script(server, connection, stream, sock):
        calls.append(stream)
        if len(calls) == 1:
            connection.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
            return
        if len(calls) == 2:
            connection.close_connection(last_stream_id=0)
            sock.sendall(connection.data_to_send())
            sock.close()
            return
        connection.send_headers(stream, OK)
        connection.send_data(stream, b"done", end_stream=True)

    with H2Server(script) as server:
        answer = over_h2(server.url).post("/", content=b"x")
        assert answer.text == "done" and len(calls) == 3 and answer.attempts == 3


def test_refused_for_ever(over_h2):
    def script(server, connection, stream, sock):
        if len(server.requests) == 1:
            connection.send_headers(stream, OK, end_stream=True)
        else:
            connection.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)

    with H2Server(script) as server:
        client = over_h2(server.url, max_retries=0, retry_backoff=0.01)
        client.get("/")
        started = time.monotonic()
        with pytest.raises(llmpool.RefusedStream) as caught:
            client.post("/", content=b"x", timeout=llmpool.Timeout(30, pool=2))
        assert caught.value.unseen and 4 < len(server.requests) < 200
        assert time.monotonic() - started < 15


def test_nginx_that_closes_after_twenty_requests(tmp_path, certificates, over_h2, at_once):
    """It leaves out what came after by a GOAWAY: some ran out of their two retries."""
    server = servers.Nginx(tmp_path, certificates, requests=20)
    with server.run():
        client = over_h2(server.tls_url)
        results = at_once(lambda _: client.get("/small").status_code, 600, 600)
        assert set(results) == {200}
        assert client.pool.stats().failed == 0


SECRETS = {
    "authorization": "Bearer sk-123", "proxy-authorization": "Basic abc", "cookie": "a=" + "b" * 40,
    "x-api-key": "sk-1", "api-key": "sk-2", "x-goog-api-key": "sk-3", "private-token": "glpat-1",
    "ocp-apim-subscription-key": "sk-4", "x-amz-security-token": "sk-5", "helicone-auth": "sk-6",
    "cf-aig-authorization": "Bearer sk-7", "x-client-secret": "sk-8",
}  # fmt: skip


def test_secrets_enter_no_table_of_anybody(over_h2):
    """RFC 7541, section 7.1.3: the server's, and those of proxies that pass them on."""

    def script(server, connection, stream, sock):
        connection.send_headers(stream, OK, end_stream=True)

    with H2Server(script) as server:
        over_h2(server.url).get("/", headers={**SECRETS, "x-public": "value"})
        indexable = {
            bytes(field[0]).decode(): field.indexable for field in server.requests[0].headers
        }
        assert {name: indexable[name] for name in SECRETS} == dict.fromkeys(SECRETS, False)
        assert indexable["x-public"]


@pytest.mark.parametrize("size", [1_000, 60_000])
def test_a_large_head_is_sent(size, over_h2):
    """nghttp2's own limit looked like a refusal of the server's."""

    def script(server, connection, stream, sock):
        connection.send_headers(stream, OK, end_stream=True)

    with H2Server(script) as server:
        server.header_limit = 1 << 20
        headers = {f"x-{i}": "v" * (size // 30) for i in range(30)}
        answer = over_h2(server.url).get("/" + "p" * size, headers=headers)
        assert answer.attempts == 1
        received = {bytes(name): bytes(value) for name, value in server.requests[0].headers}
        assert received[b":path"] == b"/" + b"p" * size and len(received) >= 34


def test_a_timeout_resets_its_stream_and_no_other(over_h2):
    def script(server, connection, stream, sock):
        if len(server.requests) > 1:
            connection.send_headers(stream, OK, end_stream=True)

    with H2Server(script) as server:
        client = over_h2(server.url)
        with pytest.raises(llmpool.ReadTimeout):
            client.get("/", timeout=llmpool.Timeout(read=0.2))

        def was_reset():
            return any(isinstance(event, h2.events.StreamReset) for event in server.events)

        assert servers.wait_until(was_reset)
        assert client.get("/").reused and server.connections == 1
        assert client.pool.stats().active == 0


def test_streams_wait_for_the_servers_limit(tmp_path, certificates, over_h2, at_once):
    server = servers.Nghttpd(tmp_path, certificates, "-m", "4")
    with server.run():
        client = over_h2(server.url, limits=llmpool.Limits(max_connections=2))
        with servers.Watch(server.port) as watch:
            results = at_once(lambda _: client.get("/small").status_code, 300, 32)
        assert set(results) == {200} and watch.most <= 2
        assert client.pool.stats().failed == 0


def test_an_idle_connection_that_says_goaway_is_gone(over_h2):
    leave = threading.Event()

    def script(server, connection, stream, sock):
        connection.send_headers(stream, OK, end_stream=True)
        sock.sendall(connection.data_to_send())

        def later():
            leave.wait(10)
            with server.lock:
                connection.close_connection()
                sock.sendall(connection.data_to_send())

        if len(server.requests) == 1:
            threading.Thread(target=later, daemon=True).start()

    with H2Server(script) as server:
        client = over_h2(server.url)
        client.get("/")
        assert client.pool.stats().idle == 1
        leave.set()
        assert servers.wait_until(lambda: servers.sockets_to(server.port) == 0)
        time.sleep(0.05)
        assert client.get("/").status_code == 200 and server.connections == 2
