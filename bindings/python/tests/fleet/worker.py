"""A member of a fleet that asks a mock without end: worker.py PLAN, a JSON object.

    store, url, key: whom it asks; count: expected_members; limits: of the budget; burst: seconds
    name: begins each x-call
    steps: [seconds, tasks, tokens of a request, priority] one after the other

It prints a JSON object: how many calls were answered, and what went wrong.
"""

import asyncio
import json
import sys
import time

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


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    store = llmpool.fleet.Redis(given["store"])
    with llmpool.fleet.join(store, expected_members=given["count"]):
        asyncio.run(main(given))
