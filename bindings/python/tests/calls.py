"""One call by each of the ways to make one."""

import asyncio

import pytest

import llmpool

WAYS = pytest.mark.parametrize("way", ["blocking", "stream", "asyncio"])


def call(way, url, pool, client=None, **more):
    """The answer to a POST of {}, read to its end. `client`: arguments of the client."""
    settings = {"base_url": url, "pool": pool, "timeout": 60, **(client or {})}
    if way == "blocking":
        return llmpool.Client(**settings).post("/", json={}, **more)
    if way == "stream":
        with llmpool.Client(**settings).stream("POST", "/", json={}, **more) as response:
            response.read()
        return response

    async def main():
        return await llmpool.AsyncClient(**settings).post("/", json={}, **more)

    return asyncio.run(main())
