"""Loops, threads and C of one process, all at once: what they share."""

import asyncio
import threading

import pytest
import servers

import llmpool

pytest.importorskip("httpx2")
pytest.importorskip("openai", minversion="3")
pytest.importorskip("anthropic", minversion="2")

from ways import HI, Kit


def test_many_streams_and_threads_share_connections(tokens):
    """200 streams of a loop, 20 threads and a client of the package: as few as the streams need."""
    llmpool.install()
    try:
        kit = Kit("install", tokens.url, tokens.ca_file)
        counts, done = [], []

        def call():
            with kit.openai() as client:
                for _ in range(5):
                    answer = client.chat.completions.create(model="any", messages=HI, max_tokens=1)
                    done.append(answer.choices[0].message.content)

        async def main():
            async def read():
                stream = await client.chat.completions.create(model="any", messages=HI, stream=True)
                counts.append([chunk async for chunk in stream])

            async with kit.async_openai() as client:
                threads = [threading.Thread(target=call) for _ in range(20)]
                for thread in threads:
                    thread.start()
                await asyncio.gather(*(read() for _ in range(200)))
                await asyncio.to_thread(lambda: [thread.join() for thread in threads])

        port = int(tokens.url.rsplit(":", 1)[1])
        before = servers.sockets_to(port, ("01",))
        asyncio.run(main())
        assert len(counts) == 200 and all(len(chunks) == 52 for chunks in counts)
        assert done == ["The"] * 100
        assert servers.sockets_to(port, ("01",)) - before <= 3
        assert servers.wait_until(lambda: tokens.stats()["streams"] == 0)
    finally:
        llmpool.uninstall()
