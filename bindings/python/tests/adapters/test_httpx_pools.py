"""Which pool a client has: of the process, of its way to connect, its limits, or its own."""

import gc
import importlib
import ssl
import sys
import threading
import time
from pathlib import Path

import pytest
import servers

import llmpool
from llmpool import transport
from llmpool._pool import ways


@pytest.fixture
def shared_again():
    """The shared pool as it was, after a test that configures it."""
    yield
    llmpool.configure(ca_file=None, verify=True, proxy=None, no_proxy=None, http1=True, http2=True)


@pytest.fixture(autouse=True)
def prompt_sweeper(monkeypatch):
    monkeypatch.setattr(ways, "_STEP", 0.02)


def pool_of(client):
    return client._transport.pool


def test_plain_clients_have_the_shared_pool(caller):
    first, second = caller.client_class(), caller.client_class(timeout=3, follow_redirects=True)
    assert pool_of(first) is pool_of(second) is llmpool.shared()
    defaults = caller.httpx.Limits(max_connections=100, max_keepalive_connections=20)
    assert pool_of(caller.client_class(limits=defaults)) is llmpool.shared()
    assert isinstance(first, getattr(caller.httpx, type(first).__name__))


def test_shared_pool_is_as_it_is_configured(caller, certificates, shared_again):
    named = caller.client_class(verify=certificates.ca_file)
    assert pool_of(named) is not llmpool.shared()
    llmpool.configure(ca_file=certificates.ca_file)
    assert pool_of(caller.client_class(verify=certificates.ca_file)) is llmpool.shared()
    assert pool_of(caller.client_class()) is not llmpool.shared()


def test_same_way_is_the_same_pool(caller, certificates, tmp_path):
    copy = tmp_path / "copy.pem"
    copy.write_bytes(Path(certificates.ca_file).read_bytes())
    context = ssl.create_default_context(cafile=str(copy))
    keep = caller.client_class(verify=certificates.ca_file)
    for same in (str(copy), context):
        assert pool_of(caller.client_class(verify=same)) is pool_of(keep)
    for other in (
        {"verify": False},
        {"verify": certificates.ca_file, "http2": False},
        {"verify": certificates.ca_file, "cert": certificates.pair("good")},
        {"verify": certificates.ca_file, "proxy": "http://127.0.0.1:1"},
        {"verify": certificates.ca_file, "limits": caller.httpx.Limits(max_connections=7)},
        {"verify": certificates.ca_file, "isolated": True},
    ):
        client = caller.client_class(**other)
        used = next(iter(client._mounts.values())) if "proxy" in other else client._transport
        assert used.pool is not pool_of(keep), other


def test_limits_choose_a_pool_that_equal_ones_share(caller):
    limits = caller.httpx.Limits(max_connections=3, max_keepalive_connections=0)
    first, second = (caller.client_class(limits=limits) for _ in range(2))
    assert pool_of(first) is pool_of(second) is not llmpool.shared()
    assert pool_of(first).limits.max_connections == 3
    assert pool_of(first).limits.max_keepalive_connections == 0
    unlimited = pool_of(caller.client_class(limits=caller.httpx.Limits()))
    many = caller.httpx.Limits(max_connections=sys.maxsize, max_keepalive_connections=sys.maxsize)
    assert pool_of(caller.client_class(limits=many)).limits.max_connections is None
    assert unlimited.limits.max_connections is None


def test_no_connection_is_kept_where_none_is_to_be(caller, nginx):
    limits = caller.httpx.Limits(max_keepalive_connections=0)
    client = {"limits": limits}
    pool = pool_of(keep := caller.client_class(limits=limits, trust_env=False))
    before = pool.stats().opened
    for _ in range(2):
        assert caller.request("GET", nginx.url + "/small", client=client).status_code == 200
        assert servers.wait_until(lambda: pool.stats().idle == pool.stats().in_use == 0)
    assert pool.stats().opened - before == 2
    assert pool_of(keep) is pool


def test_pool_of_ones_own(caller, open_pool, nginx):
    pool = open_pool()
    client = {"pool": pool}
    assert caller.request("GET", nginx.url + "/small", client=client).status_code == 200
    assert pool.stats().succeeded == 1


def test_request_beside_close_goes_no_other_way():
    """Who has asked for the lease and not yet for its pool, when another thread closes."""
    held = transport.lease(transport.way(proxy="http://127.0.0.1:9"))
    pool = held.pool
    held.release()
    held.release()
    assert held.pool is pool


def test_isolated_pool_ends_with_its_client(caller):
    client = caller.client_class(isolated=True)
    pool = pool_of(client)
    caller.run(client.close if caller.kind == "sync" else client.aclose)
    assert servers.wait_until(lambda: _is_closed(pool))


def _is_closed(pool):
    try:
        pool.stats()
    except llmpool.PoolClosed:
        return True
    return False


@pytest.mark.parametrize("end", ["closed", "collected"])
def test_pool_is_kept_after_its_last_client(caller, end):
    # Other tests' pools have other limits.
    limits = caller.httpx.Limits(max_connections=5 + len(caller.name), keepalive_expiry=600)
    client = caller.client_class(limits=limits)
    pool = pool_of(client)
    if end == "closed":
        caller.run(client.close if caller.kind == "sync" else client.aclose)
    else:
        del client
        gc.collect()
    again = caller.client_class(limits=limits)
    assert pool_of(again) is pool
    (entry,) = [entry for entry in ways._entries.values() if entry.pool is pool]
    assert (entry.users, entry.due) == (1, None)
    del again
    gc.collect()
    assert entry.due > time.monotonic() + 500
    entry.due = 0.0  # as if it were then
    assert servers.wait_until(lambda: _is_closed(pool))
    other = caller.client_class(limits=limits)
    assert pool_of(other) is not pool


def test_response_keeps_its_pool(caller, nginx):
    """Where a client was dropped and its answer is still being read."""
    if caller.kind == "async":
        pytest.skip("the same code")
    client = caller.client_class(isolated=True, trust_env=False)
    request = client.build_request("GET", nginx.url + "/large")
    response = client.send(request, stream=True)
    del client
    gc.collect()
    assert len(response.read()) == 1 << 20


@pytest.mark.parametrize("closes", [True, False])
def test_thousand_clients_leave_nothing(name, closes, certificates, nginx):
    ours = importlib.import_module(f"llmpool.{name}")
    theirs = importlib.import_module(name)
    short = theirs.Limits(max_connections=4, keepalive_expiry=0.1)

    def use(number):
        options = (
            {}, {"verify": False}, {"verify": certificates.ca_file}, {"limits": short},
            {"proxy": "http://127.0.0.1:1"}, {"isolated": True},
        )[number % 6]  # fmt: skip
        client = ours.Client(trust_env=False, **options)
        if number % 50 == 0 and "proxy" not in options:
            client.get(nginx.url + "/small")
        if closes:
            client.close()

    for number in range(12):
        use(number)
    gc.collect()
    assert servers.wait_until(lambda: not ways._dropped)
    threads, descriptors = servers.count_threads(), servers.count_descriptors()
    for number in range(1000):
        use(number)
    gc.collect()
    # One pool for each way at most, and whoever closes them.
    assert servers.wait_until(lambda: servers.count_threads() <= threads + 4, 20)
    assert servers.wait_until(lambda: servers.count_descriptors() <= descriptors + 8, 20)
    assert len(ways._entries) < 40


def test_idle_process_has_no_thread_of_ours(run_python, name):
    done = run_python(
        f"""
import gc
import llmpool.{name} as ours, {name} as theirs
from processes import count_threads, wait_until
limits = theirs.Limits(max_connections=4, keepalive_expiry=0.1)
before = count_threads()
client = ours.Client(limits=limits)
assert count_threads() > before
del client
gc.collect()
assert wait_until(lambda: count_threads() <= before, 20), count_threads()
"""
    )
    assert done.returncode == 0, done.stderr


def test_forked_child_has_pools_of_its_own(run_python, name, nginx):
    done = run_python(
        f"""
import os, sys
import llmpool.{name} as ours, {name} as theirs
limits = theirs.Limits(max_connections=4)
clients = [ours.Client(), ours.Client(limits=limits), ours.Client(isolated=True)]
for client in clients:
    assert client.get({nginx.url + "/small"!r}).status_code == 200
child = os.fork()
for client in clients:
    assert client.get({nginx.url + "/small"!r}).status_code == 200
if child == 0:
    os._exit(0)
sys.exit(os.waitpid(child, 0)[1])
"""
    )
    assert done.returncode == 0, done.stderr


def test_constructor_raises_where_the_hook_is_not_called(caller, monkeypatch):
    base = getattr(caller.httpx, caller.client_class.__name__)

    def init(self, *, transport=None, **options):
        self._transport = transport

    monkeypatch.setattr(base, "__init__", init)
    with pytest.raises(RuntimeError, match=f"{caller.name} .* does not ask for its transport"):
        caller.client_class()


def test_transport_is_taken_where_it_is_given(caller):
    mock = caller.httpx.MockTransport(lambda request: caller.httpx.Response(418))
    assert caller.request("GET", "http://a.test", client={"transport": mock}).status_code == 418


def test_unknown_argument(caller):
    with pytest.raises(TypeError):
        caller.client_class(no_such=1)
    with pytest.raises(TypeError):
        caller.transport_class(uds="/tmp/socket")


def test_many_threads_get_one_pool(name):
    ours = importlib.import_module(f"llmpool.{name}")
    theirs = importlib.import_module(name)
    limits = theirs.Limits(max_connections=11 + len(name))
    clients = []
    threads = [
        threading.Thread(target=lambda: clients.append(ours.Client(limits=limits)))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(pool_of(client)) for client in clients}) == 1


def test_import_of_llmpool_imports_no_adapter(run_python):
    done = run_python(
        "import sys, llmpool\n"
        "print([name for name in ('httpx', 'httpx2', 'ssl', 'asyncio') if name in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_making_a_client_is_cheap(name):
    """httpx2.Client() takes 0.2 s and more, for a context that ours does not need."""
    ours = importlib.import_module(f"llmpool.{name}")
    ours.Client()
    begin = time.thread_time()
    for _ in range(20):
        ours.Client()
    assert (time.thread_time() - begin) / 20 < 0.01


def test_httpx_may_be_httpx2_under_its_name(run_python):
    httpx2 = pytest.importorskip("httpx2")
    if not hasattr(httpx2, "alias_httpx"):
        pytest.skip("this httpx2 has no alias_httpx()")
    done = run_python(
        """
import httpx2
httpx2.alias_httpx()
import httpx, llmpool.httpx, llmpool.httpx2
for module in (llmpool.httpx, llmpool.httpx2):
    assert isinstance(module.Client(), httpx.Client) and isinstance(module.Client(), httpx2.Client)
"""
    )
    assert done.returncode == 0, done.stderr


def test_the_adapter_imports_little(name, run_python):
    """It adds its own modules to those of llmpool and the generation, and milliseconds."""
    done = run_python(
        f"import sys, time, llmpool, {name}\n"
        "before, start = set(sys.modules), time.process_time()\n"
        f"import llmpool.{name}\n"
        "print(time.process_time() - start, *sorted(set(sys.modules) - before))"
    )
    assert done.returncode == 0, done.stderr
    seconds, *added = done.stdout.split()
    others = [each for each in added if not each.startswith("llmpool.")]
    assert set(others) <= {"contextvars", "_contextvars"} and len(added) < 20, added
    assert float(seconds) < 0.1
