"""retry= and server_name=, on clients and on requests."""

import copy
import pickle
import threading
import time

import calls
import pytest
import servers

import llmpool


class Planned(servers.RawServer):
    """Answers with one after another of the heads given, "" being a connection that is closed."""

    def __init__(self, *plan):
        super().__init__(self.handle)
        self.plan = list(plan)
        self.requests = 0

    def handle(self, connection, _):
        buffer = b""
        while True:
            _, _, buffer = servers.read_request(connection, buffer)
            self.requests += 1
            head = self.plan.pop(0) if self.plan else "200 OK"
            if not head:
                return
            lines = head.encode().replace(b"\n", b"\r\n")
            connection.sendall(b"HTTP/1.1 " + lines + b"\r\ncontent-length: 2\r\n\r\nok")


REFUSED = b"HTTP/1.1 429 X\r\nretry-after: 0\r\ncontent-type: application/json\r\n"
AGAIN = "503 Busy\nretry-after: 0"


def call(*arguments, **more):
    """The answer's status and attempts."""
    answer = calls.call(*arguments, **more)
    return answer.status_code, answer.attempts


@calls.WAYS
@pytest.mark.parametrize("where", ["client", "request"])
def test_by_status(where, way, open_pool):
    pool = open_pool(retry_backoff=0.001)
    with Planned(AGAIN, AGAIN) as server:
        given = {"retry": "status"}
        if where == "client":
            assert call(way, server.url, pool, given) == (200, 3)
        else:
            assert call(way, server.url, pool, **given) == (200, 3)
    for given in ({}, {"retry": None}, {"retry": "sent"}, {"retry": False}):
        with Planned(AGAIN) as server:
            assert call(way, server.url, pool, **given) == (503, 1)


@calls.WAYS
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_quota_that_is_spent_is_not_tried_again(framing, way, open_pool):
    """It is told in the body alone, in whatever pieces that comes."""
    body = b'{"error": {"code": "insufficient_quota"}}'
    heads = {
        "length": b"content-length: %d" % len(body),
        "chunked": b"transfer-encoding: chunked",
        "close": b"connection: close",
    }
    requests = []

    def handle(connection, _):
        requests.append(servers.read_request(connection))
        connection.sendall(REFUSED + heads[framing] + b"\r\n\r\n")
        for piece in (body[:25], body[25:]):
            time.sleep(0.05)
            chunk = b"%x\r\n" % len(piece) + piece + b"\r\n"
            connection.sendall(chunk if framing == "chunked" else piece)
        if framing == "chunked":
            connection.sendall(b"0\r\n\r\n")

    with servers.RawServer(handle) as server:
        pool = open_pool(retry_backoff=0.001)
        assert call(way, server.url, pool, {"retry": "status", "budget": "b"}) == (429, 1)
        budget = pool.budgets()["b"]
    assert len(requests) == 1
    assert budget.refusals == 1 and budget.adaptive is None and not budget.stopped_for


@calls.WAYS
@pytest.mark.parametrize("size", [0, 10, 5_000, 100_000])
def test_a_refusal_of_any_size_is_tried_again(size, way, open_pool):
    def handle(connection, number):
        servers.read_request(connection)
        head = REFUSED if number == 1 else b"HTTP/1.1 200 OK\r\n"
        connection.sendall(head + b"connection: close\r\n\r\n" + b"x" * size)

    with servers.RawServer(handle) as server:
        pool = open_pool(retry_backoff=0.001)
        assert call(way, server.url, pool, {"retry": "status"}) == (200, 2)


@calls.WAYS
def test_a_refusal_whose_body_does_not_come_is_tried_again(way, open_pool):
    """No more than a second is waited for it, though the read timeout is a minute."""
    gone = threading.Event()

    def handle(connection, number):
        servers.read_request(connection)
        if number == 1:
            connection.sendall(REFUSED + b"content-length: 99\r\n\r\n{")
            gone.wait(60)
        else:
            servers.answer(connection)

    with servers.RawServer(handle) as server:
        pool = open_pool(retry_backoff=0.001)
        assert call(way, server.url, pool, {"retry": "status", "budget": "b"}) == (200, 2)
        assert pool.budgets()["b"].refusals == 1
        gone.set()


@pytest.mark.parametrize("size", [3_000, 10_000])
def test_a_refusal_that_is_too_large_is_tried_again(size, open_pool):
    def handle(connection, number):
        servers.read_request(connection)
        head = REFUSED if number == 1 else b"HTTP/1.1 200 OK\r\n"
        connection.sendall(
            head + b"connection: close\r\n\r\n" + b"x" * (size if number == 1 else 9)
        )

    with servers.RawServer(handle) as server:
        pool = open_pool(retry_backoff=0.001)
        client = llmpool.Client(pool=pool, retry="status", max_response_bytes=2048)
        assert client.get(server.url).attempts == 2


@calls.WAYS
def test_where_it_was_sent(way, open_pool):
    pool = open_pool(retry_backoff=0.001)
    with Planned("") as server:
        assert call(way, server.url, pool, retry="sent") == (200, 2)
    for given in ({}, {"retry": "status"}, {"retry": False}):
        with Planned("") as server, pytest.raises(llmpool.ReadError) as caught:
            call(way, server.url, pool, **given)
        assert not caught.value.unseen and server.requests == 1


@calls.WAYS
def test_a_requests_word_counts(way, open_pool):
    pool = open_pool(retry_backoff=0.001)
    with Planned(AGAIN) as server:
        assert call(way, server.url, pool, {"retry": "status"}, retry=False) == (503, 1)
    with Planned(AGAIN) as server:
        assert call(way, server.url, pool, {"retry": False}, retry="status") == (200, 2)
    with Planned(AGAIN) as server:  # None: as the client has it
        assert call(way, server.url, pool, {"retry": "status"}, retry=None) == (200, 2)


@calls.WAYS
def test_counts_and_bounds(way, open_pool):
    pool = open_pool(retry_backoff=0.001, max_retries=2)
    many = [AGAIN] * 9
    with Planned(*many) as server:
        assert call(way, server.url, pool, retry="status") == (503, 3)
    for count in (1, 4):
        with Planned(*many) as server:
            retry = llmpool.Retry(status=True, max_retries=count)
            assert call(way, server.url, pool, retry=retry) == (503, count + 1)
    late = "429 Later\nretry-after: 1"
    for bound, expected in ((0.5, (429, 1)), (2, (200, 2)), (None, (200, 2))):
        with Planned(late) as server:
            retry = llmpool.Retry(status=True, retry_after_max=bound)
            assert call(way, server.url, pool, retry=retry) == expected


def test_options_of_one_request_are_not_the_nexts(open_pool):
    """The struct is patched from call to call."""
    pool = open_pool(retry_backoff=0.001)
    with Planned(AGAIN, AGAIN, AGAIN, AGAIN, AGAIN) as server:
        client = llmpool.Client(base_url=server.url, pool=pool)
        assert client.get("/", retry=llmpool.Retry(status=True, max_retries=1)).attempts == 2
        assert client.get("/").attempts == 1
        assert client.get("/", retry="status").attempts == 3
        assert client.get("/").attempts == 1


def test_what_is_refused():
    for wrong in (True, "always", 3, 2.5, ("status",)):
        for make in (lambda: llmpool.Client(retry=wrong), lambda: _get(retry=wrong)):  # noqa: B023
            with pytest.raises(TypeError, match='retry is None, False, "status", "sent" or'):
                make()
    for wrong in (0, -1, 1 << 32):
        with pytest.raises(ValueError, match=f"from 1 to 4294967295, not {wrong}; retry=False"):
            llmpool.Retry(max_retries=wrong)
    for wrong in (None, 1.5, True, "2"):
        with pytest.raises(TypeError, match="max_retries is a whole number, not"):
            llmpool.Retry(max_retries=wrong)
    with pytest.raises(ValueError, match="retry_after_max"):
        llmpool.Retry(retry_after_max=-1)
    with pytest.raises(TypeError, match="server_name is a str"):
        llmpool.Client(server_name=b"x")
    for wrong in ("a\0b", "ä.example"):
        with pytest.raises(ValueError, match="server_name"):
            _get(server_name=wrong)


def _get(**arguments):
    return llmpool.get("http://127.0.0.1:1/", **arguments)


def test_retry_is_a_value():
    retry = llmpool.Retry(status=True, max_retries=3, retry_after_max=None)
    assert repr(retry) == (
        "Retry(status=True, sent=False, connect=True, max_retries=3, retry_after_max=None)"
    )
    assert repr(llmpool.Retry(sent=True)) == "Retry(status=False, sent=True, connect=True)"
    for same in (copy.copy(retry), copy.deepcopy(retry), pickle.loads(pickle.dumps(retry))):
        assert same == retry and same._fields == retry._fields
    assert retry != llmpool.Retry(status=True) and retry != "status"
    client = llmpool.Client(retry="status")
    assert client.retry == llmpool.Retry(status=True)
    client.retry = False
    assert client.retry != llmpool.Retry()
    client.retry = None
    assert client.retry == llmpool.Retry()


# ---- server_name


@pytest.mark.parametrize("way", ["blocking", "asyncio"])
def test_server_name(way, certificates, open_pool):
    """The certificate names another host than the URL: a server behind an address, say."""

    def handle(connection, _):
        servers.read_request(connection)
        servers.answer(connection)

    context = certificates.context("wrong-host")
    names = []
    context.sni_callback = lambda _, name, __: names.append(name)
    with servers.RawServer(handle, context) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        pool = open_pool(ca_file=certificates.ca_file)
        with pytest.raises(llmpool.CertificateError):
            call(way, url, pool)
        name = "other.example"
        assert call(way, url, pool, server_name=name)[0] == 200
        assert call(way, url, pool, {"server_name": name})[0] == 200
        with pytest.raises(llmpool.CertificateError):
            call(way, url, pool, {"server_name": name}, server_name="")
    assert set(names) == {"localhost", name}


def test_server_name_is_not_for_where_a_redirect_leads(certificates, open_pool):
    """Neither are the retries forgotten there."""

    def moved(connection, _):
        servers.read_request(connection)
        connection.sendall(
            f"HTTP/1.1 307 Moved\r\nlocation: {good.url}/\r\ncontent-length: 0\r\n\r\n".encode()
        )

    def serve(connection, _):
        servers.read_request(connection)
        servers.answer(connection)

    pool = open_pool(ca_file=certificates.ca_file)
    with (
        servers.RawServer(serve, certificates.context("good")) as good,
        servers.RawServer(moved, certificates.context("wrong-host")) as first,
    ):
        client = llmpool.Client(pool=pool, follow_redirects=True, server_name="other.example")
        assert client.get(first.url).history
