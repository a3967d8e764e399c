"""What a provider's limits cost a program on the SDK of OpenAI: with its own retries, and with budgets.

    PYTHONPATH=bindings/python python Benchmarks/python/limits.py [REQUESTS]

Wants openai, httpx2 and granian. 200 tasks share 600 requests of 50 tokens; a mock, whose log counts, enforces 600
requests and 60,000 tokens a minute, beginning with nothing: within 60 s at best. A request that has failed in spite of
the SDK's retries is made again. Prints rows of a table in Markdown.
"""

import asyncio
import itertools
import ssl
import sys
import time

import httpx2
import openai

import llmpool
import llmpool.httpx2
from llmpool.mock import MockServer

TASKS = 200
LIMITS = {"requests_per_minute": 600, "tokens_per_minute": 60_000}
CHAT = {"model": "gpt-mock", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 39}


async def serve(server, requests, http_client, max_retries, budget):
    """The seconds that it took, and how often the SDK gave up."""
    numbers = itertools.count(1)
    failures = 0
    client = openai.AsyncOpenAI(
        base_url=server.url + "/v1", api_key=server.api_key, http_client=http_client, max_retries=max_retries
    )

    async def task():
        nonlocal failures
        while next(numbers) <= requests:
            while True:
                try:
                    await client.chat.completions.create(**CHAT)
                    break
                except openai.APIError:
                    failures += 1

    began = time.monotonic()
    with llmpool.options(budget=budget):
        await asyncio.gather(*(task() for _ in range(TASKS)))
    took = time.monotonic() - began
    await client.close()
    return took, failures


def measure(name, requests, make, max_retries=2, budget=None):
    with MockServer(limits="enforce", limits_start="empty", **LIMITS) as server:
        verify = ssl.create_default_context(cafile=server.ca_file)
        took, failures = asyncio.run(serve(server, requests, make(verify=verify), max_retries, budget))
        refused = sum(call[2] == 429 for call in server.calls())
    print(f"| {name} | {refused:,} | {failures:,} | {took:.0f} s |", flush=True)


def main():
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    print("| | 429s | errors of the SDK | until all were served |\n|---|---|---|---|", flush=True)
    for retries in (2, 10):
        measure(f"the SDK alone, `max_retries={retries}`", requests, httpx2.AsyncClient, retries)
    measure("on the pool, with `auto_budget`", requests, llmpool.httpx2.AsyncClient, budget=llmpool.auto_budget)


main()
