"""Names: each test is a process of its own, with a preloaded getaddrinfo that counts and lies."""

import contextlib
import shutil
import subprocess
import textwrap
import threading
from pathlib import Path

import pytest
import servers

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
HERE = Path(__file__).resolve().parent

PRELUDE = """
import os, sys, threading, time
import llmpool, servers
from concurrent.futures import ThreadPoolExecutor

def names(**answers):
    "name=(delay in ms, addresses or 'fail')"
    text = "".join(f"{name}.test {delay} {what}\\n" for name, (delay, what) in answers.items())
    with open(os.environ["FAKE_DNS"] + ".new", "w") as file: file.write(text)
    os.rename(os.environ["FAKE_DNS"] + ".new", os.environ["FAKE_DNS"])

def lookups(name):
    try: return open(os.environ["FAKE_DNS"] + ".log").read().split().count(name + ".test")
    except FileNotFoundError: return 0

def at_once(function, count):
    with ThreadPoolExecutor(count) as executor: return list(executor.map(function, range(count)))

def timed(function):
    began = time.monotonic()
    try: result = function()
    except llmpool.HTTPError as error: result = error
    return time.monotonic() - began, result

def opened(**options):
    options.setdefault("timeout", 20.0)
    return llmpool.Client(pool=llmpool.Pool(**options))

until = servers.wait_until
port = int(sys.argv[1])
url = f"http://one.test:{port}/"
"""


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    library = tmp_path_factory.mktemp("shim") / "fakedns.so"
    subprocess.run(
        ("cc", "-shared", "-fPIC", "-O1", "-o", library, HERE / "fakedns.c", "-ldl"), check=True
    )
    return str(library)


@pytest.fixture
def run(shim, tmp_path, run_python):
    def run_(script, *arguments):
        done = run_python(
            PRELUDE + textwrap.dedent(script) + '\nprint("ok")', *arguments,
            LD_PRELOAD=shim, FAKE_DNS=str(tmp_path / "names"),
        )  # fmt: skip
        assert done.stdout.endswith("ok\n"), done.stdout + done.stderr

    return run_


@contextlib.contextmanager
def on_addresses(count, keep=True):
    """Servers on one port of 127.0.0.1, 127.0.0.2 ...; each says who it is.

    /hold waits for /release.
    """
    release = threading.Event()

    def handle(connection, _):
        buffer = b""
        own = connection.getsockname()[0].encode()
        while True:
            head, _, buffer = servers.read_request(connection, buffer)
            if b" /release" in head:
                release.set()
            if b" /hold" in head:
                release.wait(20)
            servers.answer(connection, own, b"" if keep else b"connection: close\r\n")
            if not keep:
                return

    with contextlib.ExitStack() as stack:
        first = stack.enter_context(servers.RawServer(handle))
        others = [
            stack.enter_context(servers.RawServer(handle, None, f"127.0.0.{i}", first.port))
            for i in range(2, count + 1)
        ]
        yield [first, *others]


def test_lookups_of_a_name_are_one(run):
    with on_addresses(1) as hosts:
        run(
            """
            names(one=(200, "127.0.0.1"))
            client = opened(limits=llmpool.Limits(max_connections=20))
            assert set(at_once(lambda _: client.get(url).status_code, 100)) == {200}
            stats = client.pool.stats()
            assert lookups("one") == stats.dns_lookups == 1, stats
            assert 1 <= stats.opened <= 20 and stats.succeeded == 100
            """,
            hosts[0].port,
        )


def test_cold_burst_to_http2(run, tmp_path_factory):
    server = servers.Nghttpd(tmp_path_factory.mktemp("h2c"), None, "-m", "1000")
    with server.run():
        run(
            """
            names(one=(100, "127.0.0.1"))
            client = opened(http1=False, limits=llmpool.Limits(max_streams_per_connection=1000))
            assert set(at_once(lambda _: client.get(url + "small").status_code, 500)) == {200}
            stats = client.pool.stats()
            assert lookups("one") == stats.dns_lookups == stats.opened == 1, stats
            """,
            server.port,
        )


def test_cache_and_stale_answers(run):
    """Within its time an answer serves without asking, after it while it is asked for again."""
    with on_addresses(1, keep=False) as hosts:
        run(
            """
            names(one=(0, "127.0.0.1"))
            client = opened()
            for _ in range(20): client.get(url)
            stats = client.pool.stats()
            assert lookups("one") == 1
            assert (stats.dns_lookups, stats.dns_cache_hits) == (1, 19), stats
            # It hangs: the old answer serves meanwhile.
            client = opened(dns_cache_ttl=0.2)
            client.get(url)
            time.sleep(0.3)  # until the answer has expired
            before = lookups("one")
            names(one=(30_000, "127.0.0.1"), two=(0, "127.0.0.1"))
            assert max(timed(lambda: client.get(url))[0] for _ in range(20)) < 10
            assert until(lambda: lookups("one") == before + 1)
            # It fails: the old answer still serves, and is asked for at most once a second.
            client.get(f"http://two.test:{port}/")
            time.sleep(0.3)
            before = lookups("two")
            names(two=(0, "fail"))
            began = time.monotonic()
            while time.monotonic() - began < 2.2:
                assert client.get(f"http://two.test:{port}/").is_success
            seconds = time.monotonic() - began
            assert 1 <= lookups("two") - before <= 1 + seconds, (lookups("two") - before, seconds)
            """,
            hosts[0].port,
        )


def test_zero_ttl_asks_for_each_connection(run):
    with on_addresses(1, keep=False) as hosts:
        run(
            """
            names(one=(0, "127.0.0.1"))
            client = opened(dns_cache_ttl=0)
            for _ in range(5): client.get(url)
            assert lookups("one") == 5 == client.pool.stats().dns_lookups
            """,
            hosts[0].port,
        )


def test_failures_are_kept_for_a_second_at_most(run):
    with on_addresses(1) as hosts:
        run(
            """
            names(one=(0, "fail"))
            client = opened()
            began = time.monotonic()
            for _ in range(20):
                error = timed(lambda: client.get(url))[1]
                assert isinstance(error, llmpool.ResolveError) and error.unseen, error
                assert "one.test" in str(error)
            assert lookups("one") == 1 or time.monotonic() - began > 0.9

            def kept(name):
                "For how long a name still fails when it has an address."
                def call(): return timed(lambda: client.get(f"http://{name}.test:{port}/"))[1]
                names()
                assert isinstance(call(), llmpool.ResolveError)
                before = lookups(name)
                names(**{name: (0, "127.0.0.1")})
                began = time.monotonic()
                assert until(lambda: not isinstance(call(), Exception))
                assert lookups(name) == before + 1
                return time.monotonic() - began

            # A machine that stands still spoils one of them.
            assert any(kept(name) < 1.3 for name in ("two", "three", "four"))
            found = sum(map(lookups, ("one", "two", "three", "four")))
            assert client.pool.stats().dns_lookups == found
            """,
            hosts[0].port,
        )


def test_connections_spread_over_the_addresses(run):
    with on_addresses(5) as hosts:
        run(
            """
            names(one=(0, "127.0.0.1,127.0.0.2,127.0.0.3,127.0.0.4,127.0.0.5"))
            client = opened(timeout=20)
            def call(i):
                if i < 20: return client.get(url + "hold").text
                assert until(lambda: client.pool.stats().active == 20)
                client.get(url + "release")
            count = {}
            for address in at_once(call, 21)[:20]: count[address] = count.get(address, 0) + 1
            assert count == {f"127.0.0.{i}": 4 for i in range(1, 6)}, count
            """,
            hosts[0].port,
        )


def test_an_address_that_does_not_answer_is_passed_over(run):
    with on_addresses(1) as hosts:
        run(
            """
            names(one=(0, "127.0.0.7,127.0.0.1"))
            client = opened()
            for _ in range(6):
                assert client.get(url, headers={"connection": "close"}).text == "127.0.0.1"
            """,
            hosts[0].port,
        )


def test_connections_to_gone_addresses(run):
    """Idle ones are closed, busy ones at the end of their request; the others stay."""
    with on_addresses(2) as hosts, on_addresses(1) as other:
        run(
            """
            names(one=(0, "127.0.0.1,127.0.0.2"))
            client = opened(dns_cache_ttl=1)
            results = []
            def hold(): results.append(client.get(url + "hold").text)
            threads = [threading.Thread(target=hold) for _ in range(2)]
            for thread in threads: thread.start()
            assert until(lambda: client.pool.stats().active == 2)
            # Two more, which end and leave an idle connection to each address.
            assert sorted(at_once(lambda _: client.get(url).text, 2))
            assert until(lambda: client.pool.stats().idle >= 1)
            names(one=(0, "127.0.0.1"))
            time.sleep(1.1)  # until the answer has expired
            before = lookups("one")
            # Another origin of that name dials: the expired answer serves, and is asked for again.
            client.get(f"http://one.test:{sys.argv[2]}/")
            assert until(lambda: lookups("one") > before and servers.peers(port, "127.0.0.2") == 1)
            stats = client.pool.stats()
            assert stats.in_use == 2
            client.get(url + "release")
            for thread in threads: thread.join()
            assert sorted(results) == ["127.0.0.1", "127.0.0.2"], results
            assert until(lambda: servers.peers(port, "127.0.0.2") == 0)
            assert servers.peers(port, "127.0.0.1") >= 1
            assert set(at_once(lambda _: client.get(url).text, 6)) == {"127.0.0.1"}
            """,
            hosts[0].port,
            other[0].port,
        )


def test_a_hanging_name_holds_nobody_else_back(run):
    with on_addresses(1) as hosts:
        run(
            """
            stuck = {f"stuck{i}": (30_000, "127.0.0.1") for i in range(12)}
            names(one=(0, "127.0.0.1"), two=(0, "127.0.0.1"), **stuck)
            client = opened()
            def call(i):
                timeout = llmpool.Timeout(20.0, connect=0.4)
                stuck = f"http://stuck{i % 12}.test:{port}/"
                return timed(lambda: client.get(stuck, timeout=timeout))
            pool = ThreadPoolExecutor(24)
            calls = [pool.submit(call, i) for i in range(24)]
            assert until(lambda: lookups("stuck0") == 1)
            # An address needs no lookup; a name waits until the others count as stuck.
            assert timed(lambda: client.get("http://127.0.0.1:%d/" % port))[0] < 10
            seconds, answer = timed(lambda: client.get(url))
            assert answer.is_success and seconds < 15, (seconds, answer)
            assert timed(lambda: client.get(f"http://two.test:{port}/"))[0] < 10
            for seconds, error in (call.result() for call in calls):
                assert isinstance(error, llmpool.ConnectTimeout) and seconds < 10, (seconds, error)
            assert until(lambda: all(lookups(f"stuck{i}") == 1 for i in range(12)))
            seconds, _ = timed(client.pool.close)
            assert seconds < 10, seconds
            """,
            hosts[0].port,
        )


def test_closing_and_exit_do_not_wait_for_the_resolver(run):
    run(
        """
        names(one=(60_000, "127.0.0.1"))
        client = opened()
        pool = ThreadPoolExecutor(1)
        call = pool.submit(timed, lambda: client.get(url))
        assert until(lambda: lookups("one") == 1)
        assert timed(client.pool.close)[0] < 10
        assert isinstance(call.result()[1], llmpool.PoolClosed)
        def leave(): timed(lambda: llmpool.Client().get(url))
        threading.Thread(target=leave, daemon=True).start()
        assert until(lambda: lookups("one") == 2)
        """,
        1,
    )


def test_names_of_proxies(run, tmp_path):
    """The proxy's name is looked up; for socks5 the origin's too."""
    if not shutil.which("microsocks"):
        pytest.skip("needs microsocks")
    proxy = servers.free_port()
    command = ("microsocks", "-i", "127.0.0.1", "-p", str(proxy))
    with on_addresses(1, keep=False) as hosts, servers.running(command, proxy, tmp_path):
        run(
            """
            names(one=(50, "127.0.0.1"), proxy=(100, "127.0.0.1"))
            for scheme, count in (("socks5", 1), ("socks5h", 0)):
                before = lookups("proxy"), lookups("one")
                client = opened(proxy=f"{scheme}://proxy.test:{sys.argv[2]}")
                if scheme == "socks5":
                    assert set(at_once(lambda _: client.get(url).text, 10)) == {"127.0.0.1"}
                    client.pool.configure(proxy="")
                    assert client.get(url).text == "127.0.0.1"
                    assert (lookups("proxy"), lookups("one")) == (before[0] + 1, before[1] + 2)
                else:
                    # The proxy, a process of its own, does not know these names.
                    assert isinstance(timed(lambda: client.get(url))[1], llmpool.ProxyError)
                    assert (lookups("proxy"), lookups("one")) == (before[0] + 1, before[1])
            """,
            hosts[0].port,
            proxy,
        )
