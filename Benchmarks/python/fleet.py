"""fleet.py URL MEMBERS RATE SECONDS [STORE] - how long a call takes in processes that share a budget through a store,
or that have one each. Each process sends RATE requests a second, one after the other; the budget is never short."""

import contextlib
import json
import os
import subprocess
import sys
import time

import llmpool
import llmpool.fleet

BODY = b"x" * 2048
WARM = 3.0  # seconds, in which a new store fills
PER_MINUTE = 600_000


def member(url, members, rate, seconds, store=None):
    budget = llmpool.Budget("bench", requests_per_minute=PER_MINUTE)
    fleet = contextlib.nullcontext()
    if store:
        fleet = llmpool.fleet.join(llmpool.fleet.Redis(store), expected_members=members)
    took = []
    with fleet, llmpool.Client(budget=budget) as client:
        start = time.monotonic()
        for number in range(int(rate * (WARM + seconds))):
            due = start + number / rate
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.perf_counter()
            client.post(url, content=BODY)
            if due >= start + WARM:
                took.append((time.perf_counter() - began) * 1e6)
        used = os.times()
        spent = (used.user + used.system) * 1e6 / (rate * (WARM + seconds))
    print(json.dumps([took, spent]))


def main(url, members, rate, seconds, *store):
    command = [sys.executable, __file__, "member", url, members, rate, seconds, *store]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(int(members))]
    said = [json.loads(process.communicate()[0]) for process in processes]
    took = sorted(each for times, _ in said for each in times)
    told = {f"p{share}_us": round(took[len(took) * share // 100], 1) for share in (50, 90, 99)}
    cpu = sum(spent for _, spent in said) / len(said)
    print(json.dumps({"count": len(took), "total": len(took), "cpu_us": round(cpu, 2), **told}))


if sys.argv[1] == "member":
    place, count, pace, duration, *through = sys.argv[2:]
    member(place, int(count), float(pace), float(duration), *through)
else:
    main(*sys.argv[1:])
