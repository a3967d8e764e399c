"""Many tasks that ask without end, at a mock that enforces its limits: its log is the judge. Nearly
all that comes back is served, and nothing is refused but what was sent before the first answer."""

import asyncio
import time
from dataclasses import dataclass
from typing import Tuple

import asking
import pytest
from asking import BY_REQUESTS, BY_TOKENS, CHAT, LONG, SECONDS

import llmpool
from llmpool.mock import MockServer


@dataclass(frozen=True)
class Case:
    """What a provider enforces, and who asks it.

    Attributes:
        window: seconds of refill that its buckets hold.
        told: what the budget is told of the limits: "configured", "learned" (nothing), "too high".
        sizes: of requests, in tokens: from, and to below.
        lasts: seconds that an answer takes.
        stranger: the part of the limits that somebody else takes.
        clock: seconds by which its clock is ahead: that of Anthropic, whose answers have times.
    """

    window: int
    told: str
    sizes: Tuple[int, int]
    lasts: int = 0
    stranger: float = 0.0
    clock: int = 0

    def __str__(self):
        binds = "requests" if self.sizes == BY_REQUESTS else "tokens"
        more = {"lasts": self.lasts, "stranger": self.stranger, "clock": self.clock}
        some = (f"{name}={number}" for name, number in more.items() if number)
        return "-".join([f"{self.window}s", self.told.replace(" ", "_"), binds, *some])

    @property
    def tasks(self):
        """As many more as are busy with an answer."""
        in_flight = min(asking.REQUESTS, asking.TOKENS / self.sizes[0]) / 60 * self.lasts
        return asking.TASKS + round(in_flight * 1.2)

    @property
    def model(self):
        name = "claude-mock" if self.clock else "gpt-mock"
        return f"{name}-lasts-{self.lasts}" if self.lasts else name

    @property
    def told_limits(self):
        factor = {"configured": 1, "too high": 10, "learned": 0}[self.told]
        return {name: amount * factor for name, amount in asking.LIMITS.items() if factor}


CASES = [
    *(
        Case(window, told, sizes)
        for window in (60, 1)
        for told in ("configured", "learned", "too high")
        for sizes in (BY_REQUESTS, BY_TOKENS)
    ),
    Case(60, "learned", BY_REQUESTS, lasts=20),
    Case(1, "learned", BY_TOKENS, lasts=20),
    Case(60, "learned", BY_TOKENS, lasts=90),
    Case(1, "configured", BY_REQUESTS, lasts=90),
    Case(60, "learned", BY_REQUESTS, stranger=0.3),
    Case(60, "configured", BY_TOKENS, stranger=0.3),
    Case(1, "learned", BY_TOKENS, stranger=0.3),
    Case(1, "configured", BY_REQUESTS, stranger=0.3),
    Case(60, "learned", BY_TOKENS, clock=60),
    Case(60, "learned", BY_REQUESTS, clock=-60),
    Case(1, "learned", BY_REQUESTS, clock=60),
]
SHORT = [
    Case(60, "learned", BY_TOKENS),
    Case(1, "configured", BY_REQUESTS),
    Case(1, "too high", BY_TOKENS),
]


@pytest.mark.parametrize("case", CASES if LONG else SHORT, ids=str)
def test_what_comes_back_is_served_and_hardly_any_refused(case, open_pool):
    with MockServer(
        **asking.ENFORCED,
        limit_window=case.window,
        stranger=case.stranger,
        limit_clock_offset=case.clock,
    ) as server:
        pool = open_pool(ca_file=server.ca_file)
        budget = llmpool.Budget("held", pool=pool, **case.told_limits)
        asked = asyncio.run(ask(case, server, pool, budget))
        log = asking.Log(
            server,
            case.model,
            part=1 - case.stranger,
            later=ANSWER if case.clock else 0,
            lasts=case.lasts,
        )
    bounds = {"least": 0.9, "most_refused": 0.03} if case.stranger else {}
    asking.judge(log, asked, case.sizes, case.window, **bounds)


ANSWER = 4  # tokens of Anthropic's, where the prompt alone is known before


def message(size, model):
    """A message for Anthropic with so many tokens in its prompt."""
    # Three for each message, and one for each four characters of its JSON.
    content = "x" * ((size - 3) * 4 - len('{"role": "user", "content": ""}'))
    messages = [{"role": "user", "content": content}]
    return {"model": model, "messages": messages, "max_tokens": ANSWER}


async def ask(case, server, pool, budget):
    # Who has waited for half of its time goes before those of high priority; here nobody has.
    timeout = llmpool.Timeout(60 + case.lasts, budget=4 * SECONDS)
    async with llmpool.AsyncClient(
        base_url=server.url, headers=server.headers, pool=pool, timeout=timeout
    ) as client:

        async def send(size, name, priority):
            if case.clock:
                path, body, cost = "/v1/messages", message(size, case.model), (size, ANSWER)
            else:
                path, body = CHAT, asking.chat(size, case.model)
                cost = asking.PROMPT, size - asking.PROMPT
            spending = llmpool.Spending(budget, *cost, estimated=True)
            headers = {"x-call": name}
            await client.post(path, json=body, headers=headers, priority=priority, budget=spending)

        return await asking.ask(send, case.sizes, tasks=case.tasks)


def test_a_large_request_has_its_turn(open_pool):
    """Half a minute's limit at once, beside small ones that want half as much again as there is."""
    seconds = 30 if LONG else 3
    with MockServer(**asking.ENFORCED) as server:
        pool = open_pool(ca_file=server.ca_file)
        budget = llmpool.Budget("large", pool=pool, **asking.LIMITS)
        asked, status = asyncio.run(large_beside_small(server, pool, budget, seconds))
        log = asking.Log(server)
    (wait,) = log.waits("large", asked)
    small = log.waits("small", asked)
    print({"large": wait, "small, longest": small[-1], "refused": len(log.refused)})  # for -rP
    assert status == 200 and wait <= 4 * seconds
    assert small[-1] <= seconds + 5
    # Some went on meanwhile.
    assert small[0] < seconds


async def large_beside_small(server, pool, budget, seconds):
    """Small ones all the time, until the large one is served; its status."""
    size, rate = 200, 1.5 * asking.TOKENS / 60 / 200
    begin = time.monotonic()
    names, tasks, large = [], [], None
    async with llmpool.AsyncClient(
        base_url=server.url, headers=server.headers, pool=pool
    ) as client:

        async def send(tokens, kind):
            names.append(asking.call_name(kind))
            spending = budget.spend(asking.PROMPT, tokens - asking.PROMPT)
            headers = {"x-call": names[-1]}
            body = asking.chat(tokens)
            return await client.post(CHAT, json=body, headers=headers, budget=spending)

        while large is None or not large.done():
            now = time.monotonic()
            assert now < begin + 5 * seconds
            if large is None and now > begin + seconds / 6:
                large = asyncio.ensure_future(send(seconds * asking.TOKENS // 60, "large"))
            tasks.append(asyncio.ensure_future(send(size, "small")))
            await asyncio.sleep(max(0.0, begin + len(tasks) / rate - now))
        asked = asking.Asked(names, time.monotonic())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return asked, large.result().status_code


def test_a_retry_after_stops_all_that_wait(open_pool):
    """None is sent for that time; then they go at the pace of the limit, not all at once."""
    seconds, waiting = (5, 100) if LONG else (1.5, 20)
    with MockServer(retry_after=seconds) as server:
        pool = open_pool(ca_file=server.ca_file)
        budget = llmpool.Budget("b", requests_per_minute=600, learn=False, pool=pool)
        body = asking.chat(50)

        async def main():
            async with llmpool.AsyncClient(
                base_url=server.url, headers=server.headers, pool=pool, budget=budget
            ) as client:
                answer = await client.post(CHAT, json={**body, "model": "error-429"})
                assert answer.status_code == 429
                await asyncio.gather(*(client.post(CHAT, json=body) for _ in range(waiting)))

        asyncio.run(main())
        calls = sorted(server.calls())
    stop = next(call[0] for call in calls if call[2] == 429)
    times = [call[0] - stop for call in calls if call[2] == 200]
    assert len(times) == waiting
    # Ten a second, from the end of the stop on: none sooner, however late some are.
    for number, at in enumerate(times, 1):
        assert at >= seconds - 0.1 + (number - 1) * 0.1, (number, times)


def test_without_a_limit_that_is_told_the_number_in_flight_adapts(open_pool):
    """Refused above 8 in flight, without a word of it: it settles below, and follows when more is
    allowed."""
    seconds = 20 if LONG else 8
    changes = f"{seconds}:16"
    with MockServer(
        limits="off", max_concurrent=8, max_concurrent_after=changes, ttft=1.0 if LONG else 0.3
    ) as server:
        pool = open_pool(ca_file=server.ca_file)
        headers = {"authorization": f"Bearer {server.api_key}"}
        body = {"model": "gpt-mock", "messages": [{"role": "user", "content": "hi"}]}
        end = time.monotonic() + 2 * seconds

        async def main():
            async with llmpool.AsyncClient(
                base_url=server.url, headers=headers, pool=pool, budget="adapts"
            ) as client:

                async def task():
                    while time.monotonic() < end:
                        await client.post(CHAT, json=body)

                await asyncio.gather(*(task() for _ in range(100)))

        asyncio.run(main())
        calls = sorted(server.calls())
    first = [call for call in calls if seconds * 0.6 < call[0] < seconds]
    later = [call for call in calls if call[0] > seconds * 1.7]

    def in_flight(some):
        """Of what each second has seen at once, what is usual, and the most."""
        peaks = {}
        for call in some:
            if call[2] == 200:
                peaks[int(call[0])] = max(peaks.get(int(call[0]), 0), call[6])
        ordered = sorted(peaks.values())
        return ordered[len(ordered) // 2], ordered[-1]

    usual, most = in_flight(first)
    assert usual >= 4 and most <= 9, (usual, most)
    usual, most = in_flight(later)
    assert usual >= 8 and most <= 17, (usual, most)
    refused = sum(call[2] == 429 for call in calls)
    assert refused <= len(calls) // 4, (refused, len(calls))
