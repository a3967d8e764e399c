"""The types, as checkers of users see them: mypy --strict, and pyright in its strict mode."""

import inspect
import json
import os
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import llmpool

SAMPLE = """
import asyncio
from typing import AsyncIterator

import llmpool
from llmpool.mock import MockServer


async def tokens(client: llmpool.AsyncClient) -> list[str]:
    found: list[str] = []
    timeout = llmpool.Timeout(first_byte=600, read=30)
    async with client.stream("POST", "/", json={"a": 1}, timeout=timeout, priority=1) as r:
        r.raise_for_status()
        async for event in r.aiter_sse(stop="[DONE]"):
            found.append(event.data)
            event.json()
        ttft: float | None = r.timings.time_to_first_token
        print(ttft)
        async for line in r.aiter_lines():
            found.append(line)
    return found


async def pieces() -> AsyncIterator[bytes]:
    yield b"x"
    await asyncio.sleep(0)


async def upload(client: llmpool.AsyncClient) -> str:
    async with client:
        answer = await client.post("/", content=pieces(), headers={"a": "b"}, params={"c": "1"})
    return answer.text + answer.headers["content-type"] + str(answer.url)


def blocking(client: llmpool.Client) -> bytes:
    with client.stream("GET", "/", content=iter([b"x"])) as r:
        status: int = r.status_code
        print(status, [event.retry for event in r.iter_sse()])
    answer: llmpool.Response = client.post("/", files={"a": open("x", "rb")}, priority=-1)
    earlier: list[llmpool.Response] = answer.history
    print(earlier, [header for header in answer.headers.multi_items()], answer.elapsed)
    return answer.content + b"".join(r.iter_bytes()) + llmpool.metrics().encode()


def failing(client: llmpool.Client) -> str:
    try:
        return client.request("GET", "/", timeout=None).raise_for_status().text
    except llmpool.HTTPStatusError as error:
        return error.response.text
    except llmpool.RequestError as error:
        return error.status + (str(error.request.url) if error.request else "") + str(error.unseen)


def pools() -> float:
    llmpool.debug(leaks=True)
    llmpool.configure(limits=llmpool.Limits(max_connections=10, keepalive_expiry=None), timeout=5)
    with llmpool.Pool(ca_file="ca.pem", http1=False, timeout=llmpool.Timeout(None)) as pool:
        origins: list[str] = pool.origins()
        now: llmpool.Stats = pool.stats()
        print(origins, now.submitted, repr(pool))
        assert isinstance(pool.limits.max_connections, int) and pool.timeout.read == 60.0
    with MockServer(ttft=0.1) as server:
        print(server.url, server.stats()["calls"], llmpool.get(server.url).json())
    return llmpool.stats().utilization
"""
NAMED = """
import llmpool


def begun(stream: llmpool.Stream) -> llmpool.StreamResponse:
    return stream.__enter__()


async def both(client: llmpool.AsyncClient, url: str) -> llmpool.AsyncStreamResponse:
    stream: llmpool.AsyncStream = client.stream("GET", url, retry="status")
    answer: llmpool.Response = await client.put(url, json={}, retry=llmpool.Retry(sent=True))
    earlier: llmpool.Stream = llmpool.stream("GET", url, server_name="a.example", sse=False)
    print(llmpool.post(url, json=1, retry=False).status_code, answer, begun(earlier))
    return await stream.__aenter__()
"""
# One mistake each: line by line they must be seen.
MISTAKES = """
text: int = llmpool.metrics()
answer: bytes = llmpool.Client().request("GET", "/").text
llmpool.Client().post("/", jsno={"a": 1})
llmpool.get("/", timeout="5")
llmpool.post("/", headers=5)
llmpool.Client().get("/", priority="high")
llmpool.Client().delete("/", retry="always")
llmpool.Client().put("/", follow_redirect=True)
llmpool.request("GET", "/", content=3.5)
llmpool.Client().options(5)
llmpool.AsyncClient().patch("/", params=object())
llmpool.stream("GET", "/", ses=False)
llmpool.Client().stream("GET", "/").iter_lines()
llmpool.Client().head("/", server_name=b"x")
llmpool.Retry(max_retry=3)
llmpool.HTTPStatusError("x")
"""


def mypy(directory):
    # Installed, it is found by itself, and mypy refuses to be told.
    package = str(Path(llmpool.__file__).parent.parent)
    path = {} if "site-packages" in package else {"MYPYPATH": package}
    return [
        sys.executable, "-m", "mypy", "--strict", "--python-version=3.11",
        f"--cache-dir={directory / 'cache'}", "--no-error-summary",
    ], path  # fmt: skip


def pyright(directory):
    settings = {
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "extraPaths": [str(Path(llmpool.__file__).parent.parent)],
    }
    (directory / "pyrightconfig.json").write_text(json.dumps(settings))
    return [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable], {}


@pytest.mark.parametrize("module, checker", [("mypy", mypy), ("basedpyright", pyright)])
def test_typing_for_users(module, checker, tmp_path):
    pytest.importorskip(module)
    command, environment = checker(tmp_path)

    def check(name, text):
        (tmp_path / name).write_text(text)
        return subprocess.run(
            [*command, name], cwd=tmp_path, capture_output=True, text=True, timeout=300,
            env={**os.environ, **environment},
        )  # fmt: skip

    done = check("sample.py", SAMPLE)
    assert done.returncode == 0, done.stdout + done.stderr
    done = check("named.py", NAMED)
    assert done.returncode == 0, done.stdout + done.stderr
    mistakes = MISTAKES.strip().splitlines()
    done = check("wrong.py", "\n".join(["import llmpool", *mistakes, ""]))
    seen = {int(line) for line in re.findall(r"wrong\.py:(\d+):.*error", done.stdout)}
    missed = [line for number, line in enumerate(mistakes, 2) if number not in seen]
    assert done.returncode == 1 and not missed, (missed, done.stdout + done.stderr)


# ---- at run time


def public():
    """Every public function and method by its name, properties too."""
    for name in llmpool.__all__:
        value = getattr(llmpool, name)
        if not inspect.isclass(value):
            if callable(value):
                yield name, value if inspect.isroutine(value) else type(value).__call__
            continue
        for member, function in inspect.getmembers(value):
            function = function.fget if isinstance(function, property) else function
            dunder = member in ("__init__", "__enter__", "__exit__", "__aenter__", "__aexit__")
            ours = "llmpool" in (getattr(function, "__module__", "") or "")
            if inspect.isroutine(function) and ours and (dunder or not member.startswith("_")):
                yield f"{name}.{member}", function


def test_type_hints_of_all_that_is_public():
    found = dict(public())
    assert len(found) > 150 and "Client.post" in found and "Response.elapsed" in found
    for name, function in found.items():
        hints = typing.get_type_hints(function)
        signature = inspect.signature(function)
        for parameter in list(signature.parameters.values()):
            if parameter.name not in ("self", "cls", "_", "_cls"):
                assert parameter.name in hints, (name, parameter)
        assert "return" in hints, name
    assert typing.get_type_hints(llmpool.Pool.stats)["return"] is llmpool.Stats
    assert typing.get_type_hints(llmpool.Response.timings.fget)["return"] is llmpool.Timings
    hints = typing.get_type_hints(llmpool.HTTPStatusError.__init__)
    assert hints["request"] is llmpool.Request and hints["response"] is llmpool.Response


def test_what_is_public_returns_what_is_public():
    for name, function in public():
        kind = typing.get_type_hints(function)["return"]
        if inspect.isclass(kind) and kind.__module__.startswith("llmpool"):
            assert getattr(llmpool, kind.__name__, None) is kind, (name, kind)


def test_arguments_are_written_out():
    """An editor completes them: nothing takes whatever it is given."""
    for name, function in public():
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                allowed = parameter.annotation is typing.NoReturn
                known = ("Response.json", "Event.json", "configure", "Headers.update")
                assert allowed or name.endswith(known) or "json" in name, (name, parameter)


def test_both_clients_take_the_same():
    for name in ("request", "stream", "get", "post", "put", "patch", "delete", "head", "options"):
        blocking = inspect.signature(getattr(llmpool.Client, name))
        other = inspect.signature(getattr(llmpool.AsyncClient, name))
        assert blocking.parameters == other.parameters, name
    for name in ("request", "stream", "get", "post"):
        method = list(inspect.signature(getattr(llmpool.Client, name)).parameters.values())
        assert list(inspect.signature(getattr(llmpool, name)).parameters.values()) == method[1:]


def test_the_verbs_are_up_to_date():
    script = Path(__file__).resolve().parent.parent / "generate_verbs.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
