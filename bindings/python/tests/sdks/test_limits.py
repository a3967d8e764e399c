"""Many tasks that ask a provider with limits by the SDK of OpenAI without end: its retries have
nothing to do."""

import asyncio

import asking
import pytest

import llmpool
from llmpool.mock import MockServer

pytest.importorskip("httpx2")
openai = pytest.importorskip("openai", minversion="3")

from ways import Kit  # noqa: E402

CASES = [("llmpool.httpx2", 1), ("install", 60)]


@pytest.mark.parametrize("way, window", CASES if asking.LONG else CASES[:1])
def test_what_comes_back_is_served_and_hardly_any_refused(way, window):
    with MockServer(**asking.ENFORCED, limit_window=window) as server:
        if way == "install":
            llmpool.install()
        try:
            asked = asyncio.run(ask(Kit(way, server.url, server.ca_file, "async")))
        finally:
            llmpool.uninstall()
        log = asking.Log(server)
    asking.judge(log, asked, asking.BY_REQUESTS, window)


async def ask(kit):
    async with kit.async_openai(max_retries=2) as client:

        async def send(size, name, priority):
            with llmpool.options(priority=priority):
                headers = {"x-call": name}
                await client.chat.completions.create(**asking.chat(size), extra_headers=headers)

        with llmpool.options(budget=llmpool.auto_budget):
            return await asking.ask(send, asking.BY_REQUESTS)
