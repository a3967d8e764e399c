"""python -m llmpool doctor: each cause is planted, and none is found where all is well."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import servers

import llmpool
from llmpool._command import checks
from llmpool._command.main import main
from llmpool._native.library import SONAME, lib

PACKAGE = Path(llmpool.__file__).resolve().parent
# Begins a pool, then does what the test says, tells its children, and waits for the end of stdin.
PROCESS = """
import ctypes, os, resource, sys
import llmpool
client = llmpool.Client()
children = []
{plant}
print(*children, flush=True)
sys.stdin.read()
"""
ILL = """
ctypes.CDLL(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
reading, writing = os.pipe()
pid = os.fork()
if not pid:
    os.close(writing)
    os.read(reading, 1)
    os._exit(0)
children.append(pid)
"""


@pytest.fixture
def doctor(capsys, tmp_path, monkeypatch):
    """Runs it in an empty directory; its exit status and what --json says."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        status = main(["doctor", "--json", *map(str, arguments)])
        return status, json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def process():
    """Starts a process with a pool; its id, and those of its children."""
    running = []

    def start(plant="", *arguments, **environment):
        script = PROCESS.format(plant=plant)
        child = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": servers.python_path(), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(child)
        return child.pid, child.stdout.readline().split()

    yield start
    for child in running:
        child.communicate(timeout=60)
        assert child.returncode == 0


def names(report):
    return [finding["name"] for finding in report["findings"]]


def run_doctor(*, path="", **environment):
    """In a process of its own, for what is wrong before anything is imported."""
    return subprocess.run(
        [sys.executable, "-m", "llmpool", "doctor"],
        env={**os.environ, "PYTHONPATH": path or servers.python_path(), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_healthy_machine(doctor, capsys):
    status, report = doctor()
    assert (status, report["findings"]) == (0, [])
    facts = {fact["name"]: fact for fact in report["facts"]}
    assert facts["libllmpool"]["where"] == lib.path
    assert facts["llmpool"]["value"] == llmpool.__version__
    for name in ("libcurl", "libnghttp2", "libcrypto"):
        assert facts[name]["value"][0].isdigit() and name in facts[name]["where"]
    assert int(facts["CA certificates"]["value"]) > 0
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "Nothing is wrong." in shown and "\033" not in shown


def test_a_healthy_process(doctor, process):
    pid, _ = process()
    status, report = doctor("--pid", pid)
    assert (status, report["findings"]) == (0, [])
    assert report["pid"] == pid and lib.path in [fact["where"] for fact in report["facts"]]


def test_an_ill_process(doctor, process, tmp_path):
    """Two copies of the library, too few descriptors, a fork beside a pool, another's proxies."""
    copy = tmp_path / SONAME
    shutil.copy(lib.path, copy)
    pid, (child,) = process(ILL, copy, http_proxy="http://127.0.0.1:1", HTTP_PROXY="http://other")
    status, report = doctor("--pid", pid)
    assert status == 1
    assert sorted(names(report)) == ["copies", "descriptors", "preload", "proxies"]
    said = {finding["name"]: finding["what"] for finding in report["findings"]}
    assert str(copy) in said["copies"] and lib.path in said["copies"]
    assert "64 descriptors" in said["descriptors"]
    assert said["preload"].endswith(f"{child}.")


def test_a_process_that_is_not_there_or_has_no_pool(doctor, capsys):
    assert main(["doctor", "--pid", "99999999"]) == 2
    assert "process 99999999: No such file" in capsys.readouterr().err
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            status, report = doctor("--pid", other.pid)
        finally:
            other.kill()
    assert status == 1 and "not-loaded" in names(report)


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_a_foreign_openssl(tmp_path):
    """It has taken the calls of the library's own, which was loaded before."""
    source = tmp_path / "foreign.c"
    source.write_text("void *SSL_CTX_new(void *m) { return 0; }")
    foreign = tmp_path / "libforeign.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", foreign, source], check=True)
    done = run_doctor(LD_PRELOAD=f"{foreign} libssl.so.3")
    assert done.returncode == 1 and "1 thing is wrong." in done.stdout, done.stdout + done.stderr
    said = "".join(done.stdout.split())
    assert f"{foreign}exportsanOpenSSLofitsown" in said and "LD_PRELOAD" in said
    alone = run_doctor(LD_PRELOAD=str(foreign))
    assert alone.returncode == 0, alone.stdout + alone.stderr


def test_a_library_that_is_not_there(tmp_path):
    """Python imports the package, which needs the library, before the doctor can begin."""
    missing = tmp_path / "none.so"
    done = run_doctor(LLMPOOL_LIBRARY=str(missing))
    assert done.returncode == 1, done.stdout + done.stderr
    assert str(missing) in "".join(done.stdout.split()) and "Traceback" not in done.stderr


def test_both_distributions(tmp_path):
    """The other one was installed last, so that its __init__.py is there."""
    shutil.copytree(PACKAGE, tmp_path / "llmpool", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "llmpool" / "__init__.py").write_text("OTHER = True\n")
    for name, version in (("llmpool", "0.3.1"), ("libllmpool", "0.1.0")):
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text("llmpool/__init__.py,,\nllmpool/other.py,,\n")
    done = run_doctor(path=str(tmp_path), LLMPOOL_LIBRARY=lib.path)
    assert done.returncode == 1, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "The distribution llmpool 0.3.1 has written llmpool/__init__.py, too." in said
    assert "1 thing is wrong." in said


def test_descriptors(doctor):
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        pytest.skip("there is no limit here")
    assert names(doctor("--connections", limit)[1]) == ["descriptors"]
    assert not list(checks.descriptors(-1, 1_000_000))
    levels = [next(checks.descriptors(100, count)).level for count in (100, 101)]
    assert levels == ["warning", "error"]


@pytest.mark.parametrize(
    "variables, level",
    [
        ({"https_proxy": "https://user:hidden@proxy:3128"}, "error"),
        ({"all_proxy": "proxy:port"}, "error"),
        ({"https_proxy": "http://one:1", "HTTPS_PROXY": "http://two:2"}, "warning"),
        ({"no_proxy": "one", "NO_PROXY": "two"}, "warning"),
        ({"HTTP_PROXY": "http://one:1"}, "warning"),
    ],
)
def test_proxy_variables(doctor, monkeypatch, variables, level):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    status, report = doctor()
    assert status == 1
    assert [(each["name"], each["level"]) for each in report["findings"]] == [("proxies", level)]
    assert "hidden" not in json.dumps(report)


@pytest.mark.parametrize("password", ["pa#ss", "pa/ss", "pa ss", "pa'ss", "pa?ss", "p@ss"])
def test_no_password_of_a_proxy_is_shown(password, doctor, monkeypatch):
    monkeypatch.setenv("https_proxy", f"http://opaque:{password}@127.0.0.1:3128")
    report = doctor()[1]
    text = json.dumps(report)
    assert "opaque" not in text and "ss@" not in text.replace("[secure]@", "")


def test_a_proxy_that_is_in_order_is_said_and_nothing_more(doctor, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://user:hidden@127.0.0.1:3128")
    monkeypatch.setenv("no_proxy", "internal.example")
    status, report = doctor()
    assert (status, report["findings"]) == (0, [])
    facts = {fact["name"]: fact["value"] for fact in report["facts"]}
    assert "127.0.0.1:3128" in facts["https:// calls"] and "hidden" not in json.dumps(report)
    assert facts["but not to"] == "internal.example" and "http:// calls" not in facts


def test_ca_store(doctor, monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    assert names(doctor()[1]) == ["authorities"]
    monkeypatch.delenv("SSL_CERT_FILE")
    store = checks.authorities({}, (str(tmp_path / "none.pem"), str(tmp_path)))
    (finding,) = store.findings({})
    assert finding.level == "error" and "apt-get install ca-certificates" in finding.advice
    (tmp_path / "5ed36f99.0").write_text("")
    assert not list(checks.authorities({}, ("", str(tmp_path))).findings({}))


def test_preload(doctor, monkeypatch, tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text("workers = 2\npreload_app = True\n")
    status, report = doctor()
    assert (status, names(report)) == (1, ["preload"])
    (tmp_path / "gunicorn.conf.py").write_text("workers = 2\npreload_app = False\n")
    assert doctor()[0] == 0
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--workers 2 --preload")
    assert names(doctor()[1]) == ["preload"]


def test_versions():
    old = checks.Fact("libcurl", "7.74.0", "/lib/libcurl.so.4")
    (finding,) = checks.versions([old, checks.Fact("libnghttp2", "1.52.0")])
    assert finding.name == "versions" and "libcurl is 7.74.0" in finding.what
    assert not list(checks.versions([old._replace(value="8.5.0"), old._replace(value="unknown")]))


@pytest.mark.parametrize("command", ["", "doctor", "probe", "bench"])
def test_help(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    if command:
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
    else:
        assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert f"python -m llmpool {command}".strip() in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert main([]) == main(["no-such-command"]) == 2


# ---- where there is no /proc, as in a bare chroot


def without_proc(*command):
    """What it said. In a mount namespace of its own, in which /proc is empty."""
    hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "-"]
    if subprocess.run([*hidden, "true"], capture_output=True).returncode != 0:
        pytest.skip("nothing can be mounted here")
    return subprocess.run([*hidden, *command], capture_output=True, text=True, timeout=60)


def test_calls_need_no_proc(nginx):
    script = f"import llmpool; print(llmpool.get('{nginx.url}/small').status_code)"
    done = without_proc(sys.executable, "-c", script)
    assert (done.stdout, done.stderr) == ("200\n", "")


def test_the_doctor_says_that_it_needs_proc():
    done = without_proc(sys.executable, "-m", "llmpool", "doctor")
    assert done.returncode == 2 and "/proc is not mounted" in done.stderr


def test_a_socket_to_look_in_says_that_it_needs_proc(tmp_path):
    script = f"import llmpool; llmpool.shared().serve_stats({str(tmp_path / 'shown')!r})"
    done = without_proc(sys.executable, "-c", script)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("needs /proc, which is not mounted")
