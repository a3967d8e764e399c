"""Server programs and certificates on loopback: what the tests and the benchmarks share."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

OPENSSL_NEW = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256")
LOOPBACK_NAMES = "DNS:localhost,IP:127.0.0.1"


def openssl(directory, *arguments):
    subprocess.run(
        ("openssl", *arguments), cwd=directory, check=True, capture_output=True, timeout=60
    )


def make_authority(directory, name, days=2):
    """NAME.pem and NAME.key."""
    openssl(
        directory, "req", "-x509", *OPENSSL_NEW, "-keyout", f"{name}.key", "-out", f"{name}.pem",
        "-days", str(days), "-subj", f"/CN=test {name}",
        "-addext", "basicConstraints=critical,CA:TRUE",
        "-addext", "keyUsage=critical,keyCertSign",
    )  # fmt: skip


def make_certificate(directory, name, authority, names=LOOPBACK_NAMES, days=2):
    """NAME.pem and NAME.key, of an authority in the same directory."""
    extensions = Path(directory) / f"{name}.cnf"
    extensions.write_text(f"subjectAltName={names}\nbasicConstraints=CA:FALSE\n")
    openssl(
        directory, "req", *OPENSSL_NEW, "-keyout", f"{name}.key", "-out", f"{name}.csr",
        "-subj", f"/CN={name}",
    )  # fmt: skip
    openssl(
        directory, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem",
        "-CAkey", f"{authority}.key", "-CAcreateserial", "-sha256", "-extfile", extensions.name,
        "-out", f"{name}.pem", "-days", str(days),
    )  # fmt: skip


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, seconds=10.0, step=0.005):
    """True as soon as the condition holds, False if it does not within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(step)
    return True


def count_descriptors():
    """Of this process. Others than the caller's come and go: wait until there are no more than."""
    return len(os.listdir("/proc/self/fd"))


def count_threads():
    """Of this process, as the kernel counts; a joined thread may be there a little longer."""
    return len(os.listdir("/proc/self/task"))


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running(command, port, directory, **options):
    """A server program, until the block ends; what it prints goes to a file of the directory. Its
    process has its port."""
    log = Path(directory) / f"log-{port}"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            **options,
        )  # fmt: skip
    try:
        started = wait_until(lambda: listening(port) or process.poll() is not None, 60)
        if not started or process.poll() is not None:
            raise RuntimeError(f"{command[0]}: {log.read_text(errors='replace')}")
        process.port = port
        yield process
    finally:
        end(process)


def end(process, seconds=10):
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


REDIS = shutil.which("redis-server")


def redis_server(directory, *options, port=None):
    """A store that keeps nothing on disk."""
    port = port or free_port()
    command = [
        REDIS, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
        "--dir", str(directory), *map(str, options),
    ]  # fmt: skip
    return running(command, port, directory)
