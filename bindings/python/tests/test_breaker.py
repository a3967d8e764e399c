"""A server that is down costs one timeout, and not one for each call."""

import socket
import time

import pytest
import servers

import llmpool


def serve(connection, _):
    """Answers "/529" with that status."""
    while True:
        path = servers.read_request(connection)[0].split(b" ")[1].decode().strip("/")
        servers.answer(connection, status=f"{path or 200} said".encode())


def test_a_dead_server_costs_one_timeout(open_pool):
    # Nobody accepts, and the queue is full: connections hang, as to a host that is gone.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        with socket.create_connection(address):
            pool = open_pool(timeout=llmpool.Timeout(connect=0.5), breaker=llmpool.Breaker(1))
            client = llmpool.Client(base_url="http://{}:{}".format(*address), pool=pool)
            started = time.monotonic()
            with pytest.raises(llmpool.ConnectTimeout, match="connect timeout"):
                client.get("/")
            assert time.monotonic() - started >= 0.49
            for _ in range(50):
                with pytest.raises(llmpool.ConnectTimeout, match="its breaker opened") as error:
                    client.post("/", json={})
                assert error.value.unseen
            stats = pool.stats()
            assert stats.breaker_rejections == 50 and stats.breakers_open == 1


def test_it_is_called_again_once_it_is_back(open_pool):
    port = servers.free_port()
    pool = open_pool(breaker=llmpool.Breaker(1))
    client = llmpool.Client(base_url=f"http://127.0.0.1:{port}", pool=pool, retry=False)
    for _ in range(3):
        with pytest.raises(llmpool.ConnectError):
            client.get("/")
    with servers.RawServer(serve, port=port):
        # A dial of the breaker's own, whether anybody calls or not.
        assert servers.wait_until(lambda: pool.stats().breakers_open == 0)
        assert client.get("/").status_code == 200


def test_answers_that_are_listed(open_pool):
    pool = open_pool(breaker=llmpool.Breaker(2, statuses=(503, 529)))
    with servers.RawServer(serve) as server:
        client = llmpool.Client(base_url=server.url, pool=pool)
        for _ in range(2):
            assert client.get("/529").status_code == 529
        with pytest.raises(llmpool.RefusedStream, match=r"an answer of 529"):
            client.get("/529")
        pool.configure(breaker=None)
        assert client.get("/529").status_code == 529


def test_what_a_breaker_may_be():
    assert llmpool.Breaker() == llmpool.Breaker(3, statuses=())
    assert repr(llmpool.Breaker(5, statuses=[502])) == "Breaker(failures=5, statuses=(502,))"
    for wrong in (0, 1001, -1):
        with pytest.raises(ValueError, match=f"failures is from 1 to 1000, not {wrong}"):
            llmpool.Breaker(wrong)
    for wrong in (True, "3", None, 2.5):
        with pytest.raises(TypeError, match="failures is a whole number"):
            llmpool.Breaker(wrong)
    with pytest.raises(ValueError, match="statuses are from 500 to 599, not 429"):
        llmpool.Breaker(statuses=(429,))
    with pytest.raises(TypeError, match="statuses are whole numbers"):
        llmpool.Breaker(statuses=("503",))
    with pytest.raises(TypeError, match=r"breaker is a llmpool\.Breaker or None, not int"):
        llmpool.Pool(breaker=3)
