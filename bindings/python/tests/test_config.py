import pytest
import servers

import llmpool
from llmpool import Limits, Timeout
from llmpool._native import abi

NONE = abi.NO_TIMEOUT


@pytest.mark.parametrize(
    "timeout, fields",
    [
        (Timeout(), (0, 0, 0, 0, 0, 0, 0, 0)),
        (Timeout(5.0), (5000, 5000, 5000, 5000, 0, 0, 0, 0)),
        (Timeout(None), (NONE,) * 8),
        (Timeout(None, connect=5), (5000, NONE, NONE, NONE, NONE, NONE, NONE, NONE)),
        (Timeout(5, read=None), (5000, NONE, 5000, 5000, 0, 0, 0, 0)),
        (Timeout(first_byte=600, read=30), (0, 30000, 0, 0, 0, 600000, 0, 0)),
        (Timeout((1.0, 2.0)), (1000, 2000, NONE, NONE, 0, 0, 0, 0)),
        (Timeout((1.0, None, 3.0, 4.0)), (1000, NONE, 3000, 4000, 0, 0, 0, 0)),
        (Timeout(Timeout(5, total=9), pool=1), (5000, 5000, 5000, 1000, 0, 0, 9000, 0)),
        (Timeout(5, event=0.25), (5000, 5000, 5000, 5000, 0, 0, 0, 250)),
        (Timeout(0.0001), (1, 1, 1, 1, 0, 0, 0, 0)),
        (Timeout(0.0011), (2, 2, 2, 2, 0, 0, 0, 0)),
        (Timeout(total=float("inf")), (0, 0, 0, 0, 0, 0, NONE - 1, 0)),
    ],
)
def test_timeout_as_request_fields(timeout, fields):
    assert timeout._fields == fields


def test_timeout_as_options():
    assert Timeout(None)._as_options() == {
        f"{name}_timeout_ms": 0
        for name in ("connect", "read", "write", "pool", "budget", "first_byte", "total", "event")
    }
    assert Timeout(read=2)._as_options() == {"read_timeout_ms": 2000}


@pytest.mark.parametrize("value", [-1, float("nan"), (1,), (1, 2, 3, 4, 5)])
def test_timeout_values_refused(value):
    with pytest.raises(ValueError):
        Timeout(value)


@pytest.mark.parametrize("value", ["5", True, object()])
def test_timeout_types_refused(value):
    with pytest.raises(TypeError):
        Timeout(value)


def test_timeout_repr_and_equality():
    assert repr(Timeout(5, read=None)) == "Timeout(connect=5, read=None, write=5, pool=5)"
    assert Timeout(5) == Timeout(5.0) != Timeout(6)


def test_limits():
    assert Limits()._as_options() == {}
    limits = Limits(max_connections=5, keepalive_expiry=1.5, max_pending_requests=None)
    assert limits._as_options() == {
        "max_connections": 5,
        "keepalive_expiry_ms": 1500,
        "max_pending_requests": 0,
    }
    assert repr(Limits(max_connections=5)) == "Limits(max_connections=5)"
    for wrong in ({"max_connections": 0}, {"max_connections": -1}, {"keepalive_expiry": -1}):
        with pytest.raises(ValueError):
            Limits(**wrong)
    for wrong in ({"max_connections": 1.5}, {"max_connections": True}, {"keepalive_expiry": "1"}):
        with pytest.raises(TypeError):
            Limits(**wrong)


def test_client_limits_says_the_two_ways():
    with pytest.raises(TypeError) as caught:
        llmpool.Client(limits=Limits(max_connections=5))
    assert "llmpool.configure(limits=...)" in str(caught.value)
    assert "llmpool.Client(pool=llmpool.Pool(limits=...))" in str(caught.value)
    with pytest.raises(TypeError, match=r"llmpool.configure\(proxy=...\)"):
        llmpool.Client(proxy="http://127.0.0.1:1")
    with pytest.raises(TypeError, match="no argument 'colour'"):
        llmpool.Client(colour="blue")


def test_pool_options_reach_the_library(open_pool):
    import ctypes

    from llmpool._native.library import lib

    pool = open_pool(
        limits=Limits(max_connections=7, keepalive_expiry=None),
        timeout=Timeout(3, total=60),
        http1=False,
        verify=False,
        proxy="",
        no_proxy="localhost",
        max_retries=0,
        ping_interval=None,
        tcp_keepalive=20,
    )

    def options():
        now = abi.Options()
        assert lib.options_get(pool._handle, ctypes.byref(now), ctypes.sizeof(now)) == 0
        return now

    now = options()
    assert now.max_connections == 7
    assert now.keepalive_expiry_ms == 0
    assert now.connect_timeout_ms == now.read_timeout_ms == now.pool_timeout_ms == 3000
    assert now.total_timeout_ms == 60000
    assert now.http_versions == abi.HTTP_2
    assert now.tls_insecure == 1
    assert (now.proxy, now.no_proxy) == (b"", b"localhost")
    assert now.max_retries == 0
    assert now.ping_interval_ms == 0
    assert now.tcp_keepalive_ms == 20000

    before = {name: getattr(now, name) for name, _ in abi.Options._fields_}
    pool.configure(limits=Limits(max_connections=9), http1=True)
    after = {name: getattr(options(), name) for name, _ in abi.Options._fields_}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"max_connections", "http_versions"}
    assert after["max_connections"] == 9
    assert after["http_versions"] == abi.HTTP_AUTO


@pytest.mark.parametrize(
    "options, error",
    [
        ({"http1": False, "http2": False}, ValueError),
        ({"verify": "/etc/ssl/cert.pem"}, TypeError),
        ({"max_retries": -1}, ValueError),
        ({"max_retries": 1.0}, TypeError),
        ({"limits": 5}, TypeError),
        ({"tcp_keepalive": "long"}, TypeError),
        ({"ca_file": "/nowhere/ca.pem"}, ValueError),
        ({"proxy": "a\0b"}, ValueError),
    ],
)
def test_pool_options_refused(options, error):
    with pytest.raises(error):
        llmpool.Pool(**options)


def test_configure_refuses_unknown_options(open_pool):
    with pytest.raises(TypeError, match="unknown option 'max_conections'"):
        open_pool().configure(max_conections=5)


def test_stats_fields_are_the_headers():
    import dataclasses

    ours = [field.name for field in dataclasses.fields(llmpool.Stats)]
    assert ours == [name for name, _ in abi.Stats._fields_][1:]


def test_stats_of_an_unknown_origin():
    with pytest.raises(KeyError):
        llmpool.stats("https://nowhere.example:443")


def test_shared_pool_is_not_closed():
    with llmpool.shared() as pool:
        assert pool is llmpool.shared() and llmpool.Client().pool is pool
    with pytest.raises(ValueError):
        pool.close()
    assert "connecting" in repr(pool)


def test_limits_and_timeouts_of_a_pool_can_be_read(open_pool):
    limits = llmpool.Limits(max_connections=7, max_pending_requests=None, keepalive_expiry=2.5)
    pool = open_pool(limits=limits, timeout=llmpool.Timeout(3, read=None, total=90))
    assert pool.limits.max_connections == 7 and pool.limits.max_pending_requests is None
    assert pool.limits.keepalive_expiry == 2.5 and pool.limits.max_keepalive_connections == 20
    assert pool.limits.max_connection_age is None
    assert pool.timeout.connect == 3 and pool.timeout.read is None and pool.timeout.total == 90
    pool.configure(limits=llmpool.Limits(max_connections=9), timeout=llmpool.Timeout(read=4))
    assert pool.limits.max_connections == 9 and pool.limits.keepalive_expiry == 2.5
    assert pool.timeout.connect == 3 and pool.timeout.read == 4
    same = open_pool(limits=pool.limits, timeout=pool.timeout)
    assert same.limits == pool.limits and same.timeout == pool.timeout
    fresh = open_pool()
    assert fresh.limits == llmpool.Limits(
        max_connections=100, max_connections_per_origin=None, max_keepalive_connections=20,
        keepalive_expiry=30, max_connection_age=None, max_streams_per_connection=100,
        max_pending_requests=10_000,
    )  # fmt: skip
    assert fresh.timeout == llmpool.Timeout(
        connect=5, read=60, write=10, pool=10, budget=60, first_byte=None, total=None, event=None
    )
    assert llmpool.shared().limits.max_connections
    pool.close()
    with pytest.raises(llmpool.PoolClosed):
        pool.limits  # noqa: B018


def test_no_idle_connection_is_kept(nginx, open_pool):
    pool = open_pool(limits=llmpool.Limits(max_keepalive_connections=0))
    assert pool.limits.max_keepalive_connections == 0
    client = llmpool.Client(base_url=nginx.url, pool=pool)
    for _ in range(3):
        assert not client.get("/small").reused
        assert servers.wait_until(lambda: pool.stats().idle == 0)
    assert pool.stats().opened == 3
    pool.configure(limits=llmpool.Limits(max_keepalive_connections=5))
    assert pool.limits.max_keepalive_connections == 5 and pool.limits.keepalive_expiry == 30
    client.get("/small")
    assert client.get("/small").reused
    for wrong in (-1, False):
        with pytest.raises((ValueError, TypeError)):
            llmpool.Limits(max_keepalive_connections=wrong)
