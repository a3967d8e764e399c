"""The system's CA store is read beside the first dial to an https origin, on its own thread."""

import os
import time
from pathlib import Path

import pytest
from test_exit import exits
from test_fork import CHILD

SYSTEM = Path("/etc/ssl/certs/ca-certificates.crt")


@pytest.fixture(scope="module")
def store(certificates, tmp_path_factory):
    """A bundle that takes a tenth of a second to read, if the system has one, and has our CA."""
    file = tmp_path_factory.mktemp("store") / "bundle.pem"
    system = SYSTEM.read_text() if SYSTEM.exists() else ""
    file.write_text(system * 4 + Path(certificates.ca_file).read_text())
    return str(file)


def test_first_calls_at_once(nginx, store, run_python):
    script = """
import sys, threading, llmpool
plain, tls = sys.argv[1:]
client = llmpool.Client()
answers, start = [], threading.Barrier(33)
def call(url):
    start.wait()
    answers.append(client.get(url + "/small").raise_for_status().content)
targets = [tls, plain] * 16
threads = [threading.Thread(target=call, args=(target,)) for target in targets]
for thread in threads: thread.start()
start.wait()
for thread in threads: thread.join()
assert answers == [b"x" * 200] * 32, answers
own = llmpool.Pool()
assert llmpool.Client(base_url=tls, pool=own).get("/small").is_success
own.configure(http2=False)
assert llmpool.Client(base_url=tls, pool=own).get("/small").http_version == "HTTP/1.1"
own.close()
print("ok")
"""
    done = run_python(script, nginx.url, nginx.tls_url, SSL_CERT_FILE=store)
    assert done.stdout == "ok\n", done.stderr


def test_fork_after_the_first_submission(nginx, store, run_python):
    script = """
client = llmpool.Client(base_url=url)
for round in range(8):
    with llmpool.Pool() as own:
        other = llmpool.Client(base_url=url, pool=own)
        results = []
        thread = threading.Thread(target=lambda: results.append(other.get("/small").status_code))
        thread.start()
        time.sleep(round * 0.005)
        assert ended(in_child(lambda: client.get("/small").raise_for_status())) == 0
        thread.join()
        assert results == [200], results
print("ok")
"""
    done = run_python(CHILD + script, nginx.tls_url, SSL_CERT_FILE=store)
    assert done.stdout == "ok\n", done.stderr


@pytest.mark.parametrize("imports", ["import ssl", ""])
def test_exit_after_the_first_submission(imports, nginx, store, monkeypatch):
    """OpenSSL's exit handlers, which come with Python's ssl, find nobody in OpenSSL."""
    monkeypatch.setenv("SSL_CERT_FILE", store)
    script = f"""
{imports}
import sys, threading, time, llmpool
client = llmpool.Client(base_url=sys.argv[1])
def call():
    try: client.get("/small")
    except BaseException: pass
threading.Thread(target=call, daemon=True).start()
while not llmpool.stats().submitted: pass
time.sleep(float(sys.argv[2]))
sys.exit(7)
"""
    codes = [
        code for delay in range(5) for code in exits(4, script, nginx.tls_url, str(delay * 0.02))
    ]
    assert [code for code in codes if code[0] != 7] == []


def test_a_store_that_cannot_be_read_holds_back_https_alone(nginx, tmp_path, run_python):
    """Reading lasts for ever: plain calls go on, the dial's clock runs, and the process ends."""
    fifo = tmp_path / "store.pem"
    os.mkfifo(fifo)
    script = """
import sys, threading, llmpool
plain, tls = sys.argv[1:]
client = llmpool.Client(timeout=llmpool.Timeout(10.0, connect=0.3))
assert client.get(plain + "/small").is_success
try: client.get(tls + "/small")
except llmpool.ConnectTimeout: pass
else: raise AssertionError("the store was not needed")
assert client.get(plain + "/small").is_success
print("ok")
"""
    begun = time.monotonic()
    done = run_python(script, nginx.url, nginx.tls_url, SSL_CERT_FILE=str(fifo))
    assert (done.stdout, done.returncode) == ("ok\n", 0), done.stderr
    assert time.monotonic() - begun < 30


def test_opening_a_pool_reads_no_store(tmp_path, run_python):
    fifo = tmp_path / "store.pem"
    os.mkfifo(fifo)
    script = """
import llmpool
for _ in range(3): llmpool.Pool().close()
print("ok")
"""
    done = run_python(script, SSL_CERT_FILE=str(fifo))
    assert done.stdout == "ok\n", done.stderr
