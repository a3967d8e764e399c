"""install(): the pool under httpx's own transports, and what must go on as before."""

import asyncio
import gc
import os
import signal
import socket
import ssl
import sys
import threading
from unittest.mock import patch

import pytest
import servers

import llmpool

httpx = pytest.importorskip("httpx")
httpx2 = pytest.importorskip("httpx2")
MODULES = {"httpx": httpx, "httpx2": httpx2}


@pytest.fixture(params=MODULES)
def module(request):
    return MODULES[request.param]


@pytest.fixture
def server():
    def handle(connection, _):
        buffer = b""
        while True:
            head, body, buffer = servers.read_request(connection, buffer)
            servers.answer(connection, head.split(b"\r\n")[0] + b" " + body)

    with servers.RawServer(handle) as raw:
        yield raw


def is_served(response):
    return "llmpool" in response.extensions


def of(kind):
    """What installed() says of transports of this kind."""
    return [each for each in llmpool.installed() if each.what.endswith(kind)]


# ---- clients


def test_clients_made_before_and_after_are_served(module, install, server):
    before = module.Client()
    assert not is_served(before.get(server.url))
    install()
    answer = before.post(server.url + "/a?b=1", content=b"body")
    assert is_served(answer) and answer.content == b"POST /a?b=1 HTTP/1.1 body"
    assert is_served(module.Client().get(server.url))
    assert is_served(module.get(server.url))
    llmpool.uninstall()
    assert not is_served(before.get(server.url)) and not is_served(module.Client().get(server.url))


def test_async_clients(module, install, server):
    install()

    async def main():
        async with module.AsyncClient() as client:
            answers = await asyncio.gather(*(client.get(server.url) for _ in range(10)))
            assert all(map(is_served, answers))
            async with client.stream("POST", server.url, content=b"0123") as answer:
                assert b"".join([piece async for piece in answer.aiter_raw()])[-4:] == b"0123"

    asyncio.run(main())
    (found,) = of("AsyncHTTPTransport") or [llmpool.installed()]
    assert not found or found.served


def test_all_of_them_use_one_connection(install, mock):
    install()
    context = ssl.create_default_context(cafile=mock.ca_file)
    seen = set()
    for module in MODULES.values():
        with module.Client(verify=context, headers=mock.headers) as client:
            answer = client.get(mock.url + "/v1/models")
            assert answer.http_version == "HTTP/2"
            seen.add(answer.extensions["llmpool"].connection_id)

        async def main(module=module):
            async with module.AsyncClient(verify=context, headers=mock.headers) as client:
                answer = await client.get(mock.url + "/v1/models")
                seen.add(answer.extensions["llmpool"].connection_id)

        asyncio.run(main())
    assert len(seen) == 1


def test_http2_only_where_it_was_asked_for(module, install, mock):
    install(http2=False)
    context = ssl.create_default_context(cafile=mock.ca_file)
    with module.Client(verify=context, headers=mock.headers) as client:
        answer = client.get(mock.url + "/v1/models")
        assert is_served(answer) and answer.http_version == "HTTP/1.1"


def test_retries_are_those_of_the_transport(module, install):
    install()
    url = f"http://127.0.0.1:{servers.free_port()}"
    for retries in (0, 1):
        before = llmpool.shared().stats().connect_failures
        below = module.HTTPTransport(retries=retries)
        with module.Client(transport=below) as client, pytest.raises(module.ConnectError):
            client.get(url)
        assert llmpool.shared().stats().connect_failures == before + 1 + retries


def test_errors_are_httpx_s(module, install):
    install()
    port = servers.free_port()
    with module.Client() as client, pytest.raises(module.ConnectError) as caught:
        client.get(f"http://127.0.0.1:{port}/")
    assert caught.value.request.url.port == port

    def handle(connection, _):
        servers.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")

    with (
        servers.RawServer(handle) as raw,
        module.Client() as client,
        client.stream("GET", raw.url) as answer,
        pytest.raises(module.RemoteProtocolError),
    ):
        answer.read()


def test_a_closed_client_ends_its_requests_and_no_others(module, install):
    ended = []

    def handle(connection, number):
        servers.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        if not connection.recv(1):
            ended.append(number)

    install()
    with servers.RawServer(handle) as raw:
        first, second = module.Client(), module.Client()
        one = first.send(first.build_request("GET", raw.url), stream=True)
        two = second.send(second.build_request("GET", raw.url), stream=True)
        first.close()
        assert servers.wait_until(lambda: len(ended) == 1)
        assert next(two.iter_raw()) == b"half"
        two.close()
        one.close()
        second.close()
        assert servers.wait_until(lambda: len(ended) == 2)


def test_a_thousand_clients_leave_nothing(module, install, server):
    install()
    module.Client().get(server.url)
    gc.collect()
    context = ssl.create_default_context()
    threads, files = threading.active_count(), servers.count_descriptors()
    for index in range(1000):
        client = module.Client(verify=context)
        client.get(server.url)
        if index % 2:
            client.close()
        del client
    assert threading.active_count() <= threads
    assert servers.wait_until(lambda: servers.count_descriptors() <= files + 3)
    assert server.connections <= 3


def test_the_extensions_of_a_request_count(module, install, mock):
    install()
    context = ssl.create_default_context(cafile=mock.ca_file)
    told = []
    with module.Client(verify=context, headers=mock.headers) as client:
        url = mock.url.replace("127.0.0.1", "localhost") + "/v1/models"
        client.get(url, extensions={"trace": lambda name, info: told.append((name, info))})
        names = [name for name, _ in told]
        assert "http2.receive_response_headers.complete" in names
        hosts = [info["host"] for name, info in told if name == "connection.connect_tcp.started"]
        assert set(hosts) <= {"localhost"} and ("connection.start_tls.complete" in names) == bool(
            hosts
        )
        with pytest.raises(module.ConnectError, match=r"other\.test"):
            client.get(mock.url, extensions={"sni_hostname": "other.test"})
        answer = client.get(mock.url + "/none", extensions={"target": b"/v1/models"})
        assert answer.status_code == 200

    def silent(connection, _):
        servers.read_request(connection)
        connection.recv(1)

    with (
        servers.RawServer(silent) as raw,
        module.Client(timeout=20) as client,
        llmpool.options(total=0.05),
        pytest.raises(module.TimeoutException),
    ):
        client.get(raw.url)


def test_children_of_a_process_whose_threads_begin_clients(module, install, server):
    """A child inherits no lock that another thread had."""
    install()
    # Python's ssl may hang in a child while other threads make contexts.
    context = ssl.create_default_context()
    is_over = False

    def transport():
        return module.HTTPTransport(verify=context)

    def begin():
        while not is_over:
            module.Client(transport=transport()).get(server.url)

    threads = [threading.Thread(target=begin) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                served = is_served(module.Client(transport=transport()).get(server.url))
                os._exit(0 if served else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        is_over = True
        for thread in threads:
            thread.join()


# ---- limits


def test_limits_widen_the_pool(run_python, server):
    script = """
import sys, httpx2, llmpool
llmpool.install()
def get(**limits):
    with httpx2.Client(limits=httpx2.Limits(**limits)) as client:
        client.get(sys.argv[1])
    now = llmpool.shared().limits
    return now.max_connections, now.max_keepalive_connections
assert get(max_connections=50, max_keepalive_connections=10) == (100, 20)
assert get(max_connections=1000, max_keepalive_connections=100) == (1000, 100)
assert get(max_connections=200, max_keepalive_connections=30) == (1000, 100)
assert get() == (None, None), get()
"""
    done = run_python(script, server.url)
    assert done.returncode == 0, done.stderr


def test_limits_of_the_application_stay(run_python, server):
    script = """
import sys, httpx2, llmpool
llmpool.configure(limits=llmpool.Limits(max_connections=7))
llmpool.install()
with httpx2.Client(limits=httpx2.Limits(max_connections=1000)) as client:
    client.get(sys.argv[1])
assert llmpool.shared().limits.max_connections == 7
"""
    done = run_python(script, server.url)
    assert done.returncode == 0, done.stderr


# ---- what stays as it was


def test_what_is_not_served(module, install, server, caplog):
    caplog.set_level("INFO", "llmpool")
    install()
    with module.Client(transport=module.HTTPTransport(local_address="127.0.0.1")) as client:
        assert not is_served(client.get(server.url))
    odd = (socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    with module.Client(transport=module.HTTPTransport(socket_options=[odd])) as client:
        assert not is_served(client.get(server.url))
        assert not is_served(client.get(server.url))
    with module.Client(transport=module.HTTPTransport(uds="/nonexistent")) as client:
        with pytest.raises(module.ConnectError):
            client.get(server.url)
        (found,) = [each for each in of("HTTPTransport") if each.reason == "a unix socket"]
        assert found == (f"{module.__name__}.HTTPTransport", False, "a unix socket", 1)
    with module.Client() as client:
        assert not is_served(client.get(server.url, headers={"Upgrade": "websocket"}))
        assert is_served(client.get(server.url))
    told = [record.message for record in caplog.records if "not served" in record.message]
    assert all(message.startswith("llmpool: ") for message in told)
    assert len(told) == len(set(told)) == 4, told


def test_a_proxy_that_the_pool_has_not(module, install, server):
    install()
    proxy = f"https://127.0.0.1:{servers.free_port()}"
    with module.Client(proxy=proxy) as client, pytest.raises(module.ConnectError):
        client.get(server.url)
    (found,) = [each for each in of("HTTPTransport") if not each.served]
    assert "https://" in found.reason


def test_keepalive_options_are_honoured(module, install, server):
    install()
    options = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 120_000),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    ]
    with module.Client(transport=module.HTTPTransport(socket_options=options)) as client:
        assert is_served(client.get(server.url))


def test_trio_stays_with_httpcore(module, install, server):
    trio = pytest.importorskip("trio")
    install()

    async def main():
        async with module.AsyncClient() as client:
            return await client.get(server.url)

    assert not is_served(trio.run(main))
    assert is_served(asyncio.run(main()))


# ---- TLS contexts


def get(module, server, **arguments):
    with module.Client(headers=server.headers, **arguments) as client:
        return client.get(server.url + "/v1/models")


def test_contexts_made_before_and_after(module, install, mock):
    before = ssl.create_default_context(cafile=mock.ca_file)
    install()
    assert not is_served(get(module, mock, verify=before))
    after = ssl.create_default_context(cafile=mock.ca_file)
    assert is_served(get(module, mock, verify=after))
    with pytest.raises(module.ConnectError, match="certificate"):  # the default store, served
        get(module, mock)
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    assert is_served(get(module, mock, verify=anybody))
    assert is_served(get(module, mock, verify=False))


def test_a_client_certificate_is_shown(module, install, certificates, tmp_path):
    context = certificates.context("good")
    context.load_verify_locations(certificates.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED

    def handle(connection, _):
        servers.read_request(connection)
        servers.answer(connection, str(bool(connection.getpeercert())).encode())

    install()
    with servers.RawServer(handle, context) as raw:
        shown = ssl.create_default_context(cafile=certificates.ca_file)
        shown.load_cert_chain(*certificates.pair("good"))
        with module.Client(verify=shown) as client:
            answer = client.get(raw.url)
        assert is_served(answer) and answer.text == "True"
        # A key that only its passphrase opens stays with who has it.
        certificate, key = certificates.pair("good")
        locked = str(tmp_path / "locked.key")
        servers.openssl(
            tmp_path, "pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", locked
        )
        shown = ssl.create_default_context(cafile=certificates.ca_file)
        shown.load_cert_chain(certificate, locked, "x")
        with module.Client(verify=shown) as client:
            answer = client.get(raw.url)
        assert not is_served(answer) and answer.text == "True"
        assert "passphrase" in of("HTTPTransport")[-1].reason


def test_a_default_context_that_somebody_changed(module, install, mock):
    install()
    with module.Client(trust_env=False) as client:
        context = client._transport._pool._ssl_context
        context.load_verify_locations(mock.ca_file)
        assert is_served(client.get(mock.url + "/v1/models", headers=mock.headers))
    with module.Client(trust_env=False) as client:
        context = client._transport._pool._ssl_context
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        assert is_served(client.get(mock.url + "/v1/models", headers=mock.headers))


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_contexts_of_truststore(module, install, certificates, when):
    truststore = pytest.importorskip("truststore")
    demanding = certificates.context("good")
    demanding.load_verify_locations(certificates.ca_file)
    demanding.verify_mode = ssl.CERT_REQUIRED
    before = dict(vars(ssl.SSLContext))

    def handle(connection, _):
        servers.read_request(connection)
        servers.answer(connection)

    if when == "after":
        install()
    truststore.inject_into_ssl()
    try:
        if when == "before":
            install()
        # By its name in ssl, and with what truststore would have of the system beside it.
        context = ssl.create_default_context(cafile=certificates.ca_file)
        assert type(context) is truststore.SSLContext
        context.load_cert_chain(*certificates.pair("good"))
        with servers.RawServer(handle, demanding) as raw, module.Client(verify=context) as client:
            assert is_served(client.get(raw.url))
    finally:
        truststore.extract_from_ssl()
    llmpool.uninstall()
    assert dict(vars(ssl.SSLContext)) == before


def test_the_watch_of_contexts_ends(install):
    before = dict(vars(ssl.SSLContext))
    install()
    assert vars(ssl.SSLContext)["load_cert_chain"] is not before.get("load_cert_chain")
    llmpool.uninstall()
    assert dict(vars(ssl.SSLContext)) == before


# ---- proxies


def test_proxies_of_clients_and_of_the_environment(module, install, monkeypatch):
    seen = []

    def handle(connection, _):
        head, _, _ = servers.read_request(connection)
        seen.append(head.lower())
        servers.answer(connection, b"by proxy")

    install()
    with servers.RawServer(handle) as proxy:
        url = proxy.url.replace("//", "//user:p%40ss@")
        with module.Client(proxy=url) as client:
            answer = client.get("http://api.test/x")
        assert is_served(answer) and answer.text == "by proxy"
        assert b"proxy-authorization: basic dxnlcjpwqhnz" in seen[0]
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with module.Client() as client:
            assert is_served(client.get("http://api.test/y")) and len(seen) == 2
            with pytest.raises(module.ConnectError):
                client.get(f"http://127.0.0.1:{servers.free_port()}/")
        with module.Client(trust_env=False) as client, pytest.raises(module.ConnectError):
            client.get(f"http://127.0.0.2:{servers.free_port()}/z")
        assert len(seen) == 2


# ---- what others patch


class Patch:
    """As mocks patch a class: setattr, and back to what was there."""

    def __init__(self, owner, name, value):
        self.owner, self.name, self.value = owner, name, value

    def start(self):
        self.before = getattr(self.owner, self.name)
        setattr(self.owner, self.name, self.value)

    def stop(self):
        setattr(self.owner, self.name, self.before)


def mocks_of(module):
    core = sys.modules["httpcore" if module is httpx else "httpcore2"]
    yield Patch(module.HTTPTransport, "handle_request", lambda self, request: module.Response(299))
    for kind in (core.ConnectionPool, core.HTTPConnection):
        yield Patch(kind, "handle_request", lambda self, request: core.Response(299))
    answer = b"HTTP/1.1 299 Mocked\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    yield Patch(core.SyncBackend, "connect_tcp", lambda *_, **__: core.MockStream([answer]))


@pytest.mark.parametrize("order", ["before", "inside", "after"])
@pytest.mark.parametrize("end", ["first in, first out", "last in, first out"])
@pytest.mark.parametrize("which", range(4))
def test_a_mocked_call_never_reaches_the_network(module, install, server, order, end, which):
    client = module.Client()  # one that is there all the time
    mock = list(mocks_of(module))[which]
    if order == "before":
        install()
        assert is_served(client.get(server.url))
        mock.start()
    elif order == "inside":
        mock.start()
        assert client.get(server.url).status_code == 299
        install()
    else:
        mock.start()
        install()
    count = server.connections
    for mine in (client, module.Client()):
        assert mine.get(server.url).status_code == 299
    assert server.connections == count
    if (order == "before") == (end == "last in, first out"):
        mock.stop()
        assert is_served(client.get(server.url)) and is_served(module.get(server.url))
        llmpool.uninstall()
    else:
        llmpool.uninstall()
        assert client.get(server.url).status_code == 299
        mock.stop()
    assert not is_served(client.get(server.url)) and not is_served(module.get(server.url))


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_pool_of_one_client_may_be_a_mock(module, install, server, when):
    core = sys.modules["httpcore" if module is httpx else "httpcore2"]
    answer = b"HTTP/1.1 299 Mocked\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    class Own(core.ConnectionPool):
        def handle_request(self, request):
            return core.Response(299)

    def function(transport):
        transport._pool.handle_request = lambda request: core.Response(299)

    def backend(transport):
        transport._pool._network_backend = core.MockBackend([answer])

    def pool(transport):
        transport._pool = core.ConnectionPool(network_backend=core.MockBackend([answer]))

    def subclass(transport):
        transport._pool = Own()

    for mock in (function, backend, pool, subclass):
        client = module.Client(trust_env=False)
        if when == "after":
            install()
        mock(client._transport)
        if when == "before":
            install()
        assert client.get(server.url).status_code == 299, mock.__name__
        llmpool.uninstall()
        if mock not in (backend, pool):  # whose answer is gone
            assert client.get(server.url).status_code == 299, mock.__name__
    assert server.connections == 0


def test_functions_below_the_pool_may_be_patched(module, install, server):
    core = sys.modules["httpcore" if module is httpx else "httpcore2"]
    install()
    kind = core.HTTP11Connection
    with patch.object(kind, "handle_request", lambda self, request: core.Response(299)):
        assert module.get(server.url).status_code == 299
    assert is_served(module.get(server.url))


def test_a_mock_that_outlives_an_installation_does_no_harm(module, install, server):
    core = sys.modules["httpcore" if module is httpx else "httpcore2"]
    client = module.Client(trust_env=False)
    install()
    pool = client._transport._pool
    with patch.object(pool, "handle_request", lambda request: core.Response(299)):
        llmpool.uninstall()
        assert client.get(server.url).status_code == 299
    assert not is_served(client.get(server.url))
    install()
    assert is_served(client.get(server.url))


def test_nothing_is_left_behind(module, install):
    core = sys.modules["httpcore" if module is httpx else "httpcore2"]
    kinds = (module.HTTPTransport, module.AsyncHTTPTransport, core.ConnectionPool)
    before = [dict(vars(kind)) for kind in kinds]
    client = module.Client()
    state = dict(vars(client._transport._pool))
    install()
    client._transport._pool  # noqa: B018
    assert [dict(vars(kind)) for kind in kinds][2] == before[2]
    llmpool.uninstall()
    assert [dict(vars(kind)) for kind in kinds] == before
    assert dict(vars(client._transport._pool)) == state


PYTEST_HTTPX = """
import httpx, llmpool, pytest
{at_import}

@pytest.fixture(autouse=True)
def pool():
    {in_fixture}
    yield

def test_mocked(httpx_mock):
    {in_test}
    httpx_mock.add_response(status_code=299)
    assert httpx.Client().get("http://127.0.0.1:1/").status_code == 299

@pytest.mark.httpx_mock(should_mock=lambda request: False)
def test_let_through(httpx_mock):
    llmpool.install()
    with pytest.raises(httpx.ConnectError):
        httpx.Client().get("http://127.0.0.1:1/")

def test_afterwards():
    llmpool.install()
    client = httpx.Client()
    with pytest.raises(httpx.ConnectError):
        client.get("http://127.0.0.1:1/")
    assert [each.served for each in llmpool.installed()] == [True]
"""


@pytest.mark.parametrize("place", ["at_import", "in_fixture", "in_test"])
def test_pytest_httpx(tmp_path, run_python, place):
    pytest.importorskip("pytest_httpx")
    places = {"at_import": "", "in_fixture": "", "in_test": "", place: "llmpool.install()"}
    (tmp_path / "test_mocked.py").write_text(PYTEST_HTTPX.format(**places))
    done = run_python(
        "import sys, pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', sys.argv[1]]))",
        tmp_path,
    )
    assert done.returncode == 0, done.stdout


RESPX = """
import sys, httpx, llmpool, respx
url, order, using = sys.argv[1:]
client = httpx.Client()
served = lambda answer: "llmpool" in answer.extensions
if order == "before":
    llmpool.install()
    assert served(client.get(url))
with respx.mock(using=using) as router:
    router.get(url).respond(299)
    if order == "inside":
        assert client.get(url).status_code == 299
        llmpool.install()
    assert client.get(url).status_code == httpx.get(url).status_code == 299
llmpool.install()
assert served(client.get(url)) and served(httpx.get(url))
"""


@pytest.mark.parametrize("using", ["httpcore", "httpx"])
@pytest.mark.parametrize("order", ["before", "inside", "after"])
def test_respx(server, run_python, order, using):
    pytest.importorskip("respx")
    done = run_python(RESPX, server.url + "/", order, using)
    assert done.returncode == 0, done.stderr


OTEL = """
import sys, asyncio, llmpool
from importlib import import_module
name, url, order = sys.argv[1:]
module = import_module(name)
import opentelemetry.instrumentation.httpx as instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
kind = "HTTPXClientInstrumentor" if name == "httpx" else "HTTPX2ClientInstrumentor"
instrumentor = getattr(instrumentation, kind)()
client = module.Client()
instrument = lambda: instrumentor.instrument(tracer_provider=provider)
steps = [llmpool.install, instrument]
for step in steps if order == "before" else steps[::-1]:
    step()
assert "llmpool" in client.get(url).extensions
async def main():
    async with module.AsyncClient() as client:
        assert "llmpool" in (await client.get(url)).extensions
asyncio.run(main())
assert len(spans.get_finished_spans()) == 2, spans.get_finished_spans()
instrumentor.uninstrument()
assert "llmpool" in client.get(url).extensions
llmpool.uninstall()
assert "llmpool" not in client.get(url).extensions
assert len(spans.get_finished_spans()) == 2
"""


@pytest.mark.parametrize("order", ["before", "after"])
def test_spans_of_opentelemetry(module, server, run_python, order):
    pytest.importorskip("opentelemetry.instrumentation.httpx")
    done = run_python(OTEL, module.__name__, server.url, order)
    assert done.returncode == 0, done.stderr


# ---- modules that come later


def test_what_is_imported_later_is_served(server, run_python):
    script = """
import sys, llmpool
llmpool.install()
assert "httpx" not in sys.modules and "httpx2" not in sys.modules and "asyncio" not in sys.modules
import httpx2, httpx
for module in (httpx, httpx2):
    assert "llmpool" in module.get(sys.argv[1]).extensions
    assert type(module.__loader__).__module__ != "llmpool._run.llmpool_watch"
llmpool.uninstall()
assert not any("llmpool" in type(finder).__module__ for finder in sys.meta_path)
"""
    done = run_python(script, server.url)
    assert done.returncode == 0, done.stderr


def test_under_an_alias(server, run_python):
    if not hasattr(httpx2, "alias_httpx"):
        pytest.skip("this httpx2 has no alias")
    script = """
import sys, llmpool
llmpool.install()
import httpx2
httpx2.alias_httpx()
import httpx
assert httpx.Client is httpx2.Client
assert "llmpool" in httpx.get(sys.argv[1]).extensions
assert [each.what for each in llmpool.installed()] == ["httpx2.HTTPTransport"]
llmpool.uninstall()
assert "llmpool" not in httpx.get(sys.argv[1]).extensions
"""
    done = run_python(script, server.url)
    assert done.returncode == 0, done.stderr


def test_aiohttp_is_switched_off_where_it_can_be(tmp_path, run_python):
    (tmp_path / "litellm.py").write_text(
        "import os\ndisable_aiohttp_transport = False\n"
        "seen = os.environ.get('DISABLE_AIOHTTP_TRANSPORT')\n"
    )
    for name in ("google", "google/genai"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "google" / "genai" / "_api_client.py").write_text("has_aiohttp = True\n")
    script = """
import os, sys, llmpool
sys.path.insert(0, sys.argv[1])
llmpool.install()
import litellm
from google.genai import _api_client
assert litellm.disable_aiohttp_transport is True and litellm.seen == "True"
assert _api_client.has_aiohttp is False
found = {each.what: each.served for each in llmpool.installed()}
assert found == {"litellm, async": True, "google-genai, async": True}, found
llmpool.uninstall()
assert litellm.disable_aiohttp_transport is False and _api_client.has_aiohttp is True
assert "DISABLE_AIOHTTP_TRANSPORT" not in os.environ
os.environ["DISABLE_AIOHTTP_TRANSPORT"] = "False"
llmpool.install()
assert litellm.disable_aiohttp_transport is False
(found,) = [each for each in llmpool.installed() if each.what.startswith("litellm")]
assert not found.served and "DISABLE_AIOHTTP_TRANSPORT=False" in found.reason
"""
    done = run_python(script, tmp_path)
    assert done.returncode == 0, done.stderr


def test_aiohttp_below_httpx_is_said(tmp_path, run_python):
    """cohere's async clients use httpx_aiohttp where it is there, and have no switch."""
    (tmp_path / "httpx_aiohttp.py").write_text("")
    (tmp_path / "google" / "genai").mkdir(parents=True)
    for name in ("google", "google/genai"):
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "google" / "genai" / "_api_client.py").write_text("")
    script = """
import logging, sys, llmpool
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
sys.path.insert(0, sys.argv[1])
llmpool.install()
assert llmpool.installed() == []
import httpx_aiohttp, google.genai._api_client
found = {each.what: each for each in llmpool.installed()}
assert sorted(found) == ["google-genai, async", "httpx_aiohttp, async"], found
assert not any(each.served for each in found.values()), found
assert "aiohttp" in found["httpx_aiohttp, async"].reason
assert "nothing is known" in found["google-genai, async"].reason
"""
    done = run_python(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "INFO llmpool: httpx_aiohttp, async is not served by llmpool: " in done.stderr
