"""Forks: the parent goes on undisturbed, the child begins anew."""

import os
import subprocess
import sys

import pytest
import servers

FORKS = 10_000 if os.environ.get("LLMPOOL_LONG_TESTS") == "1" else 60

CHILD = """
import os, sys, threading, time
import llmpool, servers

def in_child(function):
    "Forks; returns the child's exit code: 0 if function() passed there."
    child = os.fork()
    if child == 0:
        code = 1
        try:
            function()
            code = 0
        except BaseException:
            import traceback; traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return child

def ended(child, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid: return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, 9); os.waitpid(child, 0)
    return "it hung"
url = sys.argv[1]
until = servers.wait_until
"""


@pytest.fixture
def run(run_python):
    def run_(script, *arguments, **options):
        done = run_python(CHILD + script + '\nprint("ok")\n', *arguments, **options)
        assert done.stdout.endswith("ok\n"), done.stdout + done.stderr
        return done.stdout

    return run_


@pytest.fixture(params=["plain", "tls"])
def target(request, nginx):
    return nginx.url if request.param == "plain" else nginx.tls_url


def test_child_has_a_pool_of_its_own(target, certificates, run):
    """With the options last configured; everything else of the parent is refused there."""
    run(
        """
llmpool.configure(ca_file=sys.argv[2], limits=llmpool.Limits(max_connections=7))
own = llmpool.Pool(ca_file=sys.argv[2])
client, other = llmpool.Client(base_url=url), llmpool.Client(base_url=url, pool=own)
assert client.get("/small").is_success and other.get("/small").is_success
def child():
    answer = client.get("/small")
    assert answer.is_success and not answer.reused
    stats = llmpool.stats()
    assert (stats.submitted, stats.opened) == (1, 1), stats
    assert abs(llmpool.stats().utilization) <= 1 / 7
    calls = (lambda: other.get("/small"), own.stats, lambda: own.configure(max_retries=1))
    for call in calls:
        try: call()
        except llmpool.ForkedPool as error: assert error.status == "LLMPOOL_E_FORKED"
        else: raise AssertionError("not refused")
    own.close()
    # Once more: a grandchild.
    assert ended(in_child(lambda: client.get("/small").raise_for_status())) == 0
    with llmpool.Pool(ca_file=sys.argv[2]) as new:
        assert llmpool.Client(base_url=url, pool=new).get("/small").is_success
for _ in range(3):
    assert ended(in_child(child)) == 0
    assert client.get("/small").reused and other.get("/small").reused
own.close()
""",
        target,
        certificates.ca_file,
    )


def test_many_forks_while_requests_are_in_flight(target, certificates, run):
    """No answer of the parent is lost or mixed up, and no child hangs."""
    run(
        """
llmpool.configure(ca_file=sys.argv[2])
client = llmpool.Client(base_url=url, timeout=30)
stop, counts, failures = threading.Event(), [0] * 8, []
large = client.get("/large").content
def work(index):
    while not stop.is_set():
        try:
            path = "/large" if counts[index] % 10 == 0 else "/small"
            body = client.get(path).raise_for_status().content
            assert body == (large if path == "/large" else b"x" * 200)
            counts[index] += 1
        except BaseException as error: failures.append(repr(error))
threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
for thread in threads: thread.start()
def child(): assert client.get("/large").content == large
codes = [ended(in_child(child)) for _ in range(20)]
stop.set()
for thread in threads: thread.join()
assert codes == [0] * 20, codes
assert not failures, failures[:3]
assert min(counts) > 0
stats = llmpool.stats()
assert stats.active == stats.pending == stats.failed == 0, stats
""",
        target,
        certificates.ca_file,
    )


def test_a_child_that_only_exits_disturbs_nobody(certificates, run):
    """Neither a TLS goodbye nor a FIN reaches the server while the parent has the connection."""
    closed = []

    def handle(connection, number):
        try:
            buffer = b""
            while True:
                _, _, buffer = servers.read_request(connection, buffer)
                servers.answer(connection)
        finally:
            closed.append(number)

    with servers.RawServer(handle, certificates.context("good")) as server:
        run(
            """
import gc
llmpool.configure(ca_file=sys.argv[2])
client = llmpool.Client(base_url=url)
own = llmpool.Pool(ca_file=sys.argv[2])
other = llmpool.Client(base_url=url, pool=own)
assert client.get("/").is_success and other.get("/").is_success
def through_exit():  # with Python's own end, atexit handlers and all
    child = os.fork()
    if child == 0: sys.exit(5)
    return child
def dropping():
    global own, other
    del own, other
    gc.collect()
for make, code in ((through_exit, 5), (lambda: in_child(dropping), 0), (through_exit, 5)):
    assert ended(make()) == code
    assert client.get("/").reused and other.get("/").reused
assert llmpool.stats().closed == 0 == own.stats().closed
""",
            server.url,
            certificates.ca_file,
        )
        assert server.connections == 2


def test_fork_while_dialling_and_looking_up(run):
    """With half-open dials, and a lookup under way: the child has neither, the parent both."""

    def handle(connection, _):
        while connection.recv(1 << 16):  # TLS that never answers
            pass

    with servers.RawServer(handle) as server:
        run(
            """
llmpool.configure(http2=False)  # else one dial at a time, until it is known what is spoken
client = llmpool.Client(timeout=llmpool.Timeout(20.0, connect=2.0))
results = []
def call(target):
    try: client.get(target)
    except llmpool.HTTPError as error: results.append(type(error).__name__)
targets = [url.replace("http:", "https:")] * 4
targets += ["http://192.0.2.1:81", "http://192.0.2.1:81", "http://nowhere.invalid"]
threads = [threading.Thread(target=call, args=(target,)) for target in targets]
for thread in threads: thread.start()
assert until(lambda: llmpool.stats().connecting >= 2)
def child():
    call(targets[0])
    assert results[-1] == "ConnectTimeout", results
assert ended(in_child(child)) == 0
for thread in threads: thread.join()
assert results.count("ConnectTimeout") >= 4 and len(results) == 7, results
""",
            server.url,
        )


def test_threads_that_fork_at_once(nginx, run):
    run(
        """
client = llmpool.Client(base_url=url)
client.get("/small")
codes = []
def work():
    for _ in range(4):
        codes.append(ended(in_child(lambda: client.get("/small").raise_for_status())))
        client.get("/small").raise_for_status()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert codes == [0] * 16, codes
""",
        nginx.url,
    )


MULTIPROCESSING = """
import multiprocessing, sys
import llmpool

client = llmpool.Client()

def fetch(url):
    answer = client.get(url).raise_for_status()
    return len(answer.content), llmpool.stats().opened

if __name__ == "__main__":
    method, url = sys.argv[1:]
    if method != "forkserver": assert fetch(url) == (200, 1)
    context = multiprocessing.get_context(method)
    with context.Pool(2) as workers:
        assert set(workers.map(fetch, [url] * 20, chunksize=1)) == {(200, 1)}
    assert fetch(url) == (200, 1)
    print("ok")
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(method, nginx, tmp_path, run_python):
    program = tmp_path / "program.py"
    program.write_text(MULTIPROCESSING)
    done = run_python(
        "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])",
        program, method, nginx.url + "/small",
    )  # fmt: skip
    assert done.stdout == "ok\n" and done.returncode == 0, done.stderr


GUNICORN = """
import os, threading
import llmpool

llmpool.configure(limits=llmpool.Limits(max_connections=3))
client = llmpool.Client(base_url=os.environ["TARGET"])
client.get("/small").raise_for_status()  # the pool is in use before the workers are forked

def app(environ, start):
    body = client.get("/small").raise_for_status().content
    text = f"{os.getpid()} {len(body)} {llmpool.stats().opened}".encode()
    start("200 OK", [("content-type", "text/plain"), ("content-length", str(len(text)))])
    return [text]
"""


def test_gunicorn_with_preload(nginx, tmp_path, open_client, at_once, monkeypatch):
    pytest.importorskip("gunicorn")
    (tmp_path / "service.py").write_text(GUNICORN)
    monkeypatch.setenv("TARGET", nginx.url)
    monkeypatch.setenv("PYTHONPATH", servers.python_path())
    port = servers.free_port()
    command = (
        sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--threads", "4",
        "--bind", f"127.0.0.1:{port}", "--chdir", str(tmp_path), "--worker-tmp-dir", str(tmp_path),
        "--no-control-socket", "service:app",
    )  # fmt: skip
    with servers.running(command, port, tmp_path) as process:
        client = open_client(f"http://127.0.0.1:{port}")
        seen = {}

        def call(_):
            pid, size, opened = client.get("/", headers={"connection": "close"}).text.split()
            assert size == "200" and 1 <= int(opened) <= 3
            seen[pid] = seen.get(pid, 0) + 1

        assert servers.wait_until(lambda: at_once(call, 40) and len(seen) == 2, 20), seen
        assert str(process.pid) not in seen


CELERY = """
import os
import celery
import llmpool

folder = os.path.dirname(os.path.abspath(__file__))
app = celery.Celery("tasks", broker="filesystem://", backend=f"file://{folder}/results")
app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/queue", "data_folder_out": f"{folder}/queue",
    "control_folder": f"{folder}/control",
}
llmpool.configure(limits=llmpool.Limits(max_connections=3))
client = llmpool.Client(base_url=os.environ["TARGET"])
client.get("/small").raise_for_status()  # the pool is in use before the workers are forked

@app.task
def call():
    size = len(client.get("/small").raise_for_status().content)
    return os.getppid(), size, llmpool.stats().opened

if __name__ == "__main__":
    calls = [call.delay() for _ in range(40)]
    print({tuple(each.get(timeout=60)) for each in calls})
"""


def test_celery_with_prefork(nginx, tmp_path, monkeypatch):
    pytest.importorskip("celery")
    program = tmp_path / "tasks.py"
    program.write_text(CELERY)
    for folder in ("queue", "results", "control"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("TARGET", nginx.url)
    monkeypatch.setenv("PYTHONPATH", servers.python_path())
    command = [
        sys.executable, "-m", "celery", "-A", "tasks", "worker", "--pool", "prefork",
        "--concurrency", "2", "--without-gossip", "--without-mingle",
    ]  # fmt: skip
    with open(tmp_path / "log", "w+") as log:
        worker = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        try:
            asked = [sys.executable, str(program)]
            done = subprocess.run(asked, capture_output=True, text=True, timeout=90)
        finally:
            servers.end(worker, 30)  # it lets its own workers end first
        log.seek(0)
        assert done.stdout.strip() == str({(worker.pid, 200, 1)}), (done.stderr, log.read())


def test_forks_beside_threads_lanes_pools_and_asyncio(target, certificates, run):
    """The parent's threads are anywhere in any call when it forks: no child finds a lock locked."""
    run(
        """
import asyncio
llmpool.configure(ca_file=sys.argv[2])
client = llmpool.Client(base_url=url, timeout=30)
llmpool.AsyncClient  # imported here: a child of a thread's import waits for the module's lock
stop, failures = threading.Event(), []
def until_stopped(function):
    def work():
        while not stop.is_set():
            try: function()
            except BaseException as error: failures.append(repr(error))
    return threading.Thread(target=work)
def get(): client.get("/small").raise_for_status()
def get_on_a_new_thread():  # which has a lane of its own
    thread = threading.Thread(target=get)
    thread.start()
    thread.join()
def stream():
    with client.stream("GET", "/large") as answer:
        for _ in answer.iter_bytes(): pass
def open_and_close():
    with llmpool.Pool(ca_file=sys.argv[2]) as own:
        llmpool.Client(base_url=url, pool=own).get("/small").raise_for_status()
def gather():
    async def main():
        async with llmpool.AsyncClient(base_url=url, timeout=30) as client:
            await asyncio.gather(*(client.get("/small") for _ in range(8)))
    asyncio.run(main())
busy = (get, get, get_on_a_new_thread, stream, open_and_close, gather)
threads = [until_stopped(function) for function in busy]
for thread in threads: thread.start()
def child():
    get()
    if number % 20 == 0: open_and_close(); gather(); stream()
codes = []
for number in range(int(sys.argv[3])):
    codes.append(ended(in_child(child)))
    if codes[-1] != 0: break
stop.set()
for thread in threads: thread.join()
assert codes == [0] * len(codes), [code for code in codes if code != 0]
assert not failures, failures[:3]
""",
        target,
        certificates.ca_file,
        FORKS,
        timeout=3600,
    )
