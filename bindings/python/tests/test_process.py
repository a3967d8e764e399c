"""What needs a process of its own: Ctrl-C, exit, fork, leaks."""

import os
import signal
import subprocess
import sys
import time

import pytest
import servers


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": servers.python_path()},
        stdin=subprocess.PIPE,  # what waits for its end waits for the test
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_ends_a_blocked_call_at_once():
    gone = []

    def handle(connection, _):
        servers.read_request(connection)
        try:
            if not connection.recv(1):
                gone.append(time.monotonic())
        except OSError:
            gone.append(time.monotonic())

    script = """
import sys, threading, llmpool
client = llmpool.Client(base_url=sys.argv[1], timeout=None)
def watch():
    while llmpool.stats().active != 1: pass
    print("waiting", flush=True)
threading.Thread(target=watch, daemon=True).start()
try:
    client.get("/")
except KeyboardInterrupt:
    import time
    for _ in range(10000):
        stats = llmpool.stats()
        if stats.active == 0: break
        time.sleep(0.001)
    print("interrupted", stats.cancelled, stats.active, stats.failed, stats.pending, flush=True)
    sys.stdin.read()
"""
    with servers.RawServer(handle) as server:
        process = start(script, server.url)
        try:
            assert process.stdout.readline() == "waiting\n", process.stderr.read()
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted 1 0 0 0\n"
            assert time.monotonic() - began < 5
            # The server sees it too, while the process lives on: nothing goes on being paid for.
            assert servers.wait_until(lambda: gone)
            assert process.poll() is None
        finally:
            process.kill()
            process.communicate()


def test_a_call_after_ctrl_c_works(nginx, run_python):
    script = """
import os, signal, sys, threading, time, llmpool
client = llmpool.Client(base_url=sys.argv[1])
client.get("/small").raise_for_status()
for round in range(20):
    try:
        threading.Timer(0.002 * round / 20, os.kill, (os.getpid(), signal.SIGINT)).start()
        while True: client.get("/large")
    except KeyboardInterrupt:
        pass
    assert client.get("/small").content == b"x" * 200
for _ in range(1000):
    stats = llmpool.stats()
    if not stats.active and not stats.pending: break
    time.sleep(0.005)
assert stats.active == stats.pending == 0, stats
print("ok")
"""
    done = run_python(script, nginx.url)
    assert done.stdout == "ok\n", done.stderr


def test_exit_with_requests_in_flight(certificates):
    """After Python's ssl was imported: the exit handlers of OpenSSL then run in the middle."""
    context = certificates.context("good", ("h2", "http/1.1"))

    def handle(connection, _):
        while connection.recv(65536):
            pass

    script = """
import ssl, sys, threading, time
import llmpool
llmpool.configure(ca_file=sys.argv[2], http2=False)
client = llmpool.Client(base_url=sys.argv[1], timeout=None)
def call():
    try: client.get("/")
    except BaseException: pass
for _ in range(20): threading.Thread(target=call, daemon=True).start()
end = time.monotonic() + 20
while llmpool.stats().active < 20 and time.monotonic() < end: time.sleep(0.001)
sys.exit(7 if llmpool.stats().active == 20 else 8)
"""
    with servers.RawServer(handle, context) as server:
        codes = []
        for _ in range(15):
            batch = [start(script, server.url, certificates.ca_file) for _ in range(4)]
            for process in batch:
                try:
                    _, errors = process.communicate(timeout=60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.communicate()
                    errors = "it hung"
                codes.append((process.returncode, errors[-500:]))
        server.errors.clear()
    assert [code for code in codes if code[0] != 7] == []


def test_fork(nginx, run_python):
    script = """
import os, sys, llmpool
own = llmpool.Pool()
client = llmpool.Client(base_url=sys.argv[1])
other = llmpool.Client(base_url=sys.argv[1], pool=own)
client.get("/small").raise_for_status(); other.get("/small").raise_for_status()
child = os.fork()
if child == 0:
    code = 1
    try:
        assert client.get("/small").raise_for_status().content == b"x" * 200
        try:
            other.get("/small")
        except llmpool.ForkedPool as error:
            assert error.status == "LLMPOOL_E_FORKED"
            own.close()
            code = 0
    except BaseException:
        import traceback; traceback.print_exc()
    finally:
        os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert client.get("/small").reused and other.get("/small").reused
print("ok")
"""
    done = run_python(script, nginx.url)
    assert done.stdout == "ok\n", done.stderr


def test_a_started_program_inherits_nothing(nginx, run_python):
    """Neither connections, epoll sets and event descriptors nor libcurl's own two sockets."""
    script = """
import subprocess, sys, llmpool
pools = [llmpool.Pool(verify=False) for _ in range(3)]
for pool in pools:
    for url in sys.argv[1:]:
        llmpool.Client(base_url=url, pool=pool).get("/small").raise_for_status()
subprocess.run(["ls", "-l", "/proc/self/fd"], close_fds=False)
"""
    done = run_python(script, nginx.url, nginx.tls_url)
    links = [line.partition("-> ")[2] for line in done.stdout.splitlines() if "-> " in line]
    assert links, done.stderr
    ours = [link for link in links if link.startswith(("socket:", "anon_inode:"))]
    assert not ours, done.stdout


def test_pools_leave_nothing_behind(nginx, run_python):
    """No thread is left when close() returns; with requests in flight also no descriptor."""
    script = """
import sys, threading, llmpool
from llmpool._native import lane
from processes import count_descriptors, count_threads, wait_until
def count():
    # Without the lanes that are kept, two descriptors each: threads that overlap make more of them.
    return count_descriptors() - 2 * len(lane._free), count_threads()
def rested():
    # What two looks in a row have seen: a joined thread may still be on its way out.
    seen = []
    def is_the_same():
        seen.append(count())
        return seen[-2:-1] == seen[-1:]
    assert wait_until(is_the_same, step=0.05), seen
    return seen[-1]
def quiet():
    with llmpool.Pool(verify=False) as pool:
        llmpool.Client(base_url=sys.argv[1], pool=pool).get("/small").raise_for_status()
def busy():
    with llmpool.Pool(verify=False) as pool:
        client = llmpool.Client(base_url=sys.argv[1], pool=pool)
        def call():
            try: client.get("/large")
            except llmpool.PoolClosed: pass
        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads: thread.start()
        client.get("/small").raise_for_status()
    for thread in threads: thread.join()
for _ in range(3): quiet()
before = rested()
at_once = 0
for _ in range(20):
    quiet()
    at_once += count() == before
    assert wait_until(lambda: count() == before, 2), (before, count())
assert at_once >= 5, at_once  # late is only who is on his way out, and that is seldom
for _ in range(3): busy()
assert wait_until(lambda: count()[1] == before[1], 2), count()
before = count()
for _ in range(20): busy()
assert wait_until(lambda: count()[1] <= before[1], 2), (before, count())
assert count()[0] <= before[0], (before, count())
print("ok")
"""
    for url in (nginx.url, nginx.tls_url):
        done = run_python(script, url)
        assert done.stdout == "ok\n", done.stderr


def test_objects_do_not_pile_up(nginx, run_python):
    script = """
import gc, sys, tracemalloc, llmpool
client = llmpool.Client(base_url=sys.argv[1])
for _ in range(200): client.post("/early", json={"a": 1}, headers={"x": "y"})
gc.collect(); tracemalloc.start()
def grown():
    objects, before = len(gc.get_objects()), tracemalloc.get_traced_memory()[0]
    for _ in range(1000): client.post("/early", json={"a": 1}, headers={"x": "y"})
    gc.collect()
    return tracemalloc.get_traced_memory()[0] - before, len(gc.get_objects()) - objects
rounds = [grown() for _ in range(3)]  # in one of them something may be imported, for good
assert min(size for size, _ in rounds) < 50_000 and min(count for _, count in rounds) < 50, rounds
print("ok")
"""
    done = run_python(script, nginx.url)
    assert done.stdout == "ok\n", done.stderr


def test_the_garbage_of_errors_is_collected(nginx, run_python):
    """CPython's collector crashes on some objects that an error's frames may hold."""
    script = """
import gc, sys, llmpool
client = llmpool.Client(base_url=sys.argv[1], max_response_bytes=1000)
for _ in range(200):
    try: client.get("/large")
    except llmpool.ResponseTooLarge as error: error.cycle = error
    gc.collect()
print("ok")
"""
    done = run_python(script, nginx.url)
    assert done.stdout == "ok\n", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="Linux")
def test_gevent(nginx, run_python):
    pytest.importorskip("gevent")
    script = """
from gevent import monkey; monkey.patch_all()
import gevent, sys, time, llmpool
client = llmpool.Client(base_url=sys.argv[1], timeout=20)
ticks = 0
def tick():
    global ticks
    while True: gevent.sleep(0.01); ticks += 1
gevent.spawn(tick)
client.get("/large")
jobs = [gevent.spawn(client.get, "/small") for _ in range(50)]
gevent.joinall(jobs, raise_error=True)
print("ok")
"""
    done = run_python(script, nginx.url)
    assert done.stdout == "ok\n", done.stderr
