"""The types, as checkers of users see them: mypy --strict, and pyright in its strict mode."""

import json
import os
import subprocess
import sys
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
        return error.response.text if error.response is not None else ""
    except llmpool.RequestError as error:
        return error.status + (str(error.request.url) if error.request else "") + str(error.unseen)


def pools() -> float:
    llmpool.debug(leaks=True)
    llmpool.configure(limits=llmpool.Limits(max_connections=10, keepalive_expiry=None), timeout=5)
    with llmpool.Pool(ca_file="ca.pem", http1=False, timeout=llmpool.Timeout(None)) as pool:
        origins: list[str] = pool.origins()
        now: llmpool.Stats = pool.stats()
        print(origins, now.submitted, repr(pool))
    with MockServer(ttft=0.1) as server:
        print(server.url, server.stats()["calls"], llmpool.get(server.url).json())
    return llmpool.stats().utilization
"""
WRONG = """
import llmpool

text: int = llmpool.metrics()
answer: bytes = llmpool.Client().request("GET", "/").text
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
    done = check("wrong.py", WRONG)  # it knows the types at all
    assert done.returncode == 1 and done.stdout.count("error") >= 2, done.stdout + done.stderr
