"""first_data.py URL ROUNDS STREAMS [CA-FILE] - whether timings.first_data tells the truth: so many streams at a time of
the token server, each of one token, which says when the server handed it over. What is told is how far from that, by
the pool's own clock, the first data came: in microseconds, before or after."""

import asyncio
import json
import sys
import time

import llmpool


async def differences(client, url, streams):
    async def one():
        submitted = time.monotonic()
        async with client.stream("GET", f"{url}/tokens?streams={streams}&tokens=1&rate=100") as response:
            token = [event.json() async for event in response.aiter_sse(stop="[DONE]")][0]
        handed_over = token["at"] / 1e9
        return abs(submitted + response.timings.first_data - handed_over) * 1e6

    return await asyncio.gather(*(one() for _ in range(streams)))


async def main(url, rounds, streams, ca_file=None):
    pool = llmpool.Pool(ca_file=ca_file, limits=llmpool.Limits(max_connections=streams))
    async with llmpool.AsyncClient(pool=pool) as client:
        await differences(client, url, streams)
        found = [each for _ in range(rounds) for each in await differences(client, url, streams)]
    pool.close()
    found.sort()
    told = {f"p{share}_us": round(found[len(found) * share // 100], 1) for share in (50, 90, 99)}
    print(json.dumps({"count": len(found), "total": len(found), **told}))


url, rounds, streams, *rest = sys.argv[1:]
asyncio.run(main(url, int(rounds), int(streams), *rest))
