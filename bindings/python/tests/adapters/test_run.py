"""python -m llmpool run: programs that know nothing of llmpool."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import servers

import llmpool

pytest.importorskip("httpx2")
HERE = Path(llmpool.__file__).resolve().parent
# Says where its requests went.
PROGRAM = """
import sys, httpx2
answer = httpx2.get(sys.argv[1])
print("llmpool" in answer.extensions, *sys.argv[2:])
"""


@pytest.fixture
def server():
    def handle(connection, _):
        buffer = b""
        while True:
            _, _, buffer = servers.read_request(connection, buffer)
            servers.answer(connection)

    with servers.RawServer(handle) as raw:
        yield raw


@pytest.fixture
def run(tmp_path):
    """Runs python -m llmpool run with these arguments in a directory of its own."""

    def run_(*arguments, executable=sys.executable, options=(), path="", timeout=60, **environment):
        given = os.pathsep.join(filter(None, (path, servers.python_path())))
        done = subprocess.run(
            [executable, *options, "-m", "llmpool", "run", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": given, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return done.returncode, done.stdout, done.stderr

    return run_


@pytest.fixture
def program(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    return "program.py"


def test_a_script_a_module_and_code(run, program, server):
    assert run(program, server.url, "a", "-b") == (0, "True a -b\n", "")
    assert run("-m", "program", server.url, "c") == (0, "True c\n", "")
    assert run("-c", PROGRAM, server.url) == (0, "True\n", "")


def test_a_command(run, tmp_path, server):
    command = tmp_path / "command"
    command.write_text(f"#!{sys.executable}\n{PROGRAM}")
    command.chmod(0o755)
    assert run(command, server.url) == (0, "True\n", "")
    assert run("sh", "-c", f"./command {server.url}") == (0, "True\n", "")


def test_options_of_the_interpreter_hold(run):
    script = (
        "import sys; print(sys.flags.optimize, sys.flags.dev_mode, sys.warnoptions, "
        "sys._xoptions, sys.stdout.write_through)"
    )
    options = ("-O", "-u", "-X", "faulthandler", "-W", "error::UserWarning")
    status, output, error = run("-c", script, options=options)
    assert (status, error) == (0, "")
    assert output == "1 False ['error::UserWarning'] {'faulthandler': True} True\n"


@pytest.mark.parametrize("option", ["-E", "-S"])
def test_options_that_it_cannot_work_with(option):
    # The package is found beside the program here, or not at all.
    done = subprocess.run(
        [sys.executable, option, "-m", "llmpool", "run", "-c", "print(1)"],
        cwd=HERE.parent,
        env={**os.environ, "PYTHONPATH": servers.python_path()},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and not done.stdout
    assert f"{option[1]}" in done.stderr and "PYTHONPATH" in done.stderr


def test_a_directory_may_have_the_name_of_a_command(run, tmp_path):
    (tmp_path / "true").mkdir()
    assert run("true") == (0, "", "")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text("print(1)")
    assert run("package") == (0, "1\n", "")


def test_an_empty_part_of_the_path_is_the_working_directory(tmp_path, run):
    script = "import os, sys; print(sys.path.count(os.getcwd()))"
    given = f"{servers.python_path()}{os.pathsep}"
    assert run("-c", script, PYTHONPATH=given) == (0, "1\n", "")


def test_exit_status_and_signals_are_the_program_s(run):
    assert run("-c", "import sys; sys.exit(7)")[0] == 7
    assert run("-c", "import os; os.kill(os.getpid(), 15)")[0] == -15


def test_what_cannot_be_run(run, tmp_path):
    assert run("no-such-program") == (127, "", "llmpool run: no-such-program: not found\n")
    status, _, error = run()
    assert status == 2 and error.startswith("usage: python -m llmpool run PROGRAM")
    status, output, _ = run("--help")
    assert status == 0 or output


def test_switched_off(run, program, server):
    assert run(program, server.url, LLMPOOL_INSTALL="0") == (0, "False\n", "")


def test_nothing_is_imported_before_httpx(run):
    script = "import sys; print(sorted(n for n in sys.modules if n.startswith(('llmpool', 'ssl'))))"
    assert run("-c", script) == (0, "['llmpool_watch']\n", "")
    paths = "import sys; print([path for path in sys.path if path.endswith('_run')])"
    assert run("-c", paths) == (0, "[]\n", "")


def test_the_next_sitecustomize_runs_too(run, tmp_path, program, server):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import sys; sys.next_was_here = True\n")
    script = "import sys, sitecustomize; print(sys.next_was_here, sitecustomize.__file__)"
    assert run("-c", script, path=str(site)) == (0, f"True {site}/sitecustomize.py\n", "")
    (site / "sitecustomize.py").write_text("import httpx2\n")
    assert run(program, server.url, path=str(site)) == (0, "True\n", "")


def test_children_are_served(run, tmp_path, server):
    (tmp_path / "child.py").write_text(PROGRAM)
    (tmp_path / "parent.py").write_text(
        """
import multiprocessing, os, subprocess, sys
import httpx2

def served(url):
    return "llmpool" in httpx2.get(url).extensions

if __name__ == "__main__":
    url = sys.argv[1]
    subprocess.run([sys.executable, "child.py", url], check=True)
    for method in ("spawn", "forkserver", "fork"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(method, pool.apply(served, (url,)), flush=True)
    child = os.fork()
    if child == 0:
        os._exit(0 if served(url) else 1)
    print(os.waitpid(child, 0)[1])
"""
    )
    status, output, error = run("parent.py", server.url)
    assert status == 0, error
    assert output == "True\nspawn True\nforkserver True\nfork True\n0\n"


def test_workers_of_uvicorn(tmp_path, server):
    pytest.importorskip("uvicorn")
    (tmp_path / "app.py").write_text(
        f"""
import os
import httpx2

async def app(scope, receive, send):
    if scope["type"] != "http":
        while True:
            message = await receive()
            await send({{"type": message["type"] + ".complete"}})
            if message["type"] == "lifespan.shutdown":
                return
    async with httpx2.AsyncClient() as client:
        answer = await client.get({server.url!r})
    body = f"{{'llmpool' in answer.extensions}} {{os.getpid()}}".encode()
    close = [(b"connection", b"close")]
    await send({{"type": "http.response.start", "status": 200, "headers": close}})
    await send({{"type": "http.response.body", "body": body}})
"""
    )
    port = servers.free_port()
    command = [
        sys.executable, "-m", "llmpool", "run", "uvicorn", "app:app", "--workers", "2", "--port",
        str(port),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": servers.python_path()}
    client = llmpool.Client(base_url=f"http://127.0.0.1:{port}")
    workers = set()

    def ask():
        served, worker = client.get("/", retry="sent").text.split()
        assert served == "True"
        workers.add(worker)
        return len(workers) == 2

    with servers.running(command, port, tmp_path, env=environment):
        assert servers.wait_until(ask, 30)


def test_requests_from_exit_handlers(run, tmp_path, server):
    (tmp_path / "program.py").write_text(
        """
import atexit, sys, threading
import httpx2
client = httpx2.Client()
atexit.register(lambda: print("llmpool" in client.get(sys.argv[1]).extensions))
"""
    )
    assert run("program.py", server.url) == (0, "True\n", "")


def test_an_interpreter_without_llmpool(tmp_path, server):
    """Its own httpx goes on as before, and nothing is said."""
    base = getattr(sys, "_base_executable", sys.executable)
    probe = [base, "-S", "-c", "import llmpool"]
    if subprocess.run(probe, capture_output=True, env={}).returncode == 0:
        pytest.skip("the interpreter below has llmpool")
    (tmp_path / "httpx.py").write_text("answer = 42\n")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    }
    environment["PYTHONPATH"] = str(HERE / "_run")
    done = subprocess.run(
        [base, "-c", "import sys; sys.path.insert(0, '.'); import httpx; print(httpx.answer)"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")


def test_a_pool_that_cannot_be_loaded_is_told_of(run, program, server):
    status, output, error = run(program, server.url, LLMPOOL_LIBRARY="/nonexistent")
    if not output:  # the launcher itself needs the library
        assert status != 0 and "/nonexistent" in error
    else:
        assert output == "False\n" and "RuntimeWarning" in error


def test_a_library_that_would_use_aiohttp(run, tmp_path):
    """It imports httpx in its midst: the switch is to be set when it is at its end."""
    (tmp_path / "litellm.py").write_text(
        "import os, httpx2\n"
        "made_meanwhile = os.environ['DISABLE_AIOHTTP_TRANSPORT']\n"
        "disable_aiohttp_transport = False\n"
    )
    (tmp_path / "google" / "genai").mkdir(parents=True)
    (tmp_path / "google" / "genai" / "_api_client.py").write_text(
        "import httpx2\nhas_aiohttp = 1\n"
    )
    script = """
import litellm, llmpool
from google.genai import _api_client
print(litellm.made_meanwhile, litellm.disable_aiohttp_transport, _api_client.has_aiohttp)
print([(each.what, each.served) for each in llmpool.installed()])
"""
    served = "[('litellm, async', True), ('google-genai, async', True)]"
    assert run("-c", script, path=str(tmp_path)) == (0, f"True True False\n{served}\n", "")
