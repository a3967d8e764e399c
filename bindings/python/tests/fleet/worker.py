"""A member of a fleet that asks a mock without end: worker.py PLAN, a JSON object.

    store, url, key: whom it asks; count: expected_members; limits: of the budget; burst: seconds
    name: begins each x-call
    waits: True: says "ready" and waits for a line, so that the steps of several begin together
    through: a socket of Unix that leads to the host of `url`, where there is no other way
    steps: [seconds, tasks, tokens of a request, priority] one after the other

It prints a JSON object: how many calls were answered, and what went wrong.
"""

import asyncio
import fcntl
import json
import socket
import struct
import sys
import time
from urllib.parse import urlsplit

from roads import Road

import llmpool
import llmpool.fleet

PROMPT = 11
HI = [{"role": "user", "content": "hi"}]


async def main(plan):
    budget = llmpool.Budget("fleet", burst=plan["burst"], **plan["limits"])
    errors, answered = [], 0
    timeout = llmpool.Timeout(60, budget=600)
    headers = {"authorization": f"Bearer {plan['key']}"}
    async with llmpool.AsyncClient(headers=headers, timeout=timeout) as client:

        async def task(end, size, priority):
            nonlocal answered
            while time.monotonic() < end:
                body = {"model": "gpt-mock", "messages": HI, "max_tokens": size - PROMPT}
                spending = llmpool.Spending(budget, PROMPT, size - PROMPT, estimated=True)
                call = {"x-call": f"{plan['name']} {time.monotonic():.3f}"}
                await client.post(
                    plan["url"], json=body, headers=call, budget=spending, priority=priority
                )
                answered += 1

        for seconds, tasks, size, priority in plan["steps"]:
            end = time.monotonic() + seconds
            running = [asyncio.ensure_future(task(end, size, priority)) for _ in range(tasks)]
            await asyncio.sleep(seconds)
            for each in running:
                each.cancel()
            for each in await asyncio.gather(*running, return_exceptions=True):
                if isinstance(each, Exception):
                    errors.append(repr(each))
    state = llmpool.budgets()["fleet"]
    print(json.dumps({"answered": answered, "errors": errors, "left": state.limits[0].remaining}))


def raise_loopback():
    """Of a network namespace that is new: what `ip link set lo up` does."""
    is_up = struct.pack("16sh14x", b"lo", 1)
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, is_up)  # SIOCSIFFLAGS, IFF_UP


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    if "through" in given:
        raise_loopback()
        address = urlsplit(given["url"])
        road = Road(given["through"])
        given["url"] = address._replace(netloc=f"127.0.0.1:{road.port}").geturl()
    store = llmpool.fleet.Redis(given["store"])
    with llmpool.fleet.join(store, expected_members=given["count"]):
        if given.get("waits"):
            print("ready", flush=True)
            sys.stdin.readline()
        asyncio.run(main(given))
