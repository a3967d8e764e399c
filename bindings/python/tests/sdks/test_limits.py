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

CASES = [("llmpool.httpx2", 1, "requests"), ("llmpool.httpx2", 1, "tokens")]
LONGER = [("install", 60, "requests"), ("install", 60, "tokens")]
# So few that by tokens each waits for less than half of the default budget timeout, which the SDK
# leaves as it is: from there on who has waited longest goes before every priority (docs/limits.md).
TASKS = 80
SIZES = {"requests": asking.BY_REQUESTS, "tokens": asking.BY_TOKENS}


@pytest.mark.parametrize("way, window, binds", CASES + LONGER if asking.LONG else CASES)
def test_what_comes_back_is_served_and_hardly_any_refused(way, window, binds):
    with MockServer(**asking.ENFORCED, limit_window=window) as server:
        if way == "install":
            llmpool.install()
        try:
            asked = asyncio.run(ask(Kit(way, server.url, server.ca_file, "async"), SIZES[binds]))
        finally:
            llmpool.uninstall()
        log = asking.Log(server)
    asking.judge(log, asked, SIZES[binds], window)


async def ask(kit, sizes):
    async with kit.async_openai(max_retries=2) as client:

        async def send(size, name, priority):
            with llmpool.options(priority=priority):
                headers = {"x-call": name}
                await client.chat.completions.create(**asking.chat(size), extra_headers=headers)

        with llmpool.options(budget=llmpool.auto_budget):
            return await asking.ask(send, sizes, tasks=TASKS)
