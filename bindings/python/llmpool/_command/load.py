"""Load on a server: a closed loop, which waits for answers, or an open one, which does not."""

import asyncio
import math
from collections import Counter
from time import perf_counter
from typing import Any, Coroutine, Dict, List, NamedTuple, Optional

import llmpool

from .._http.config import RetryTypes
from .._http.exceptions import HTTPError
from .call import UNSENDABLE, Call


class Plan(NamedTuple):
    """
    Attributes:
        concurrency: requests in flight, of the closed loop.
        rate: requests a second, of the open loop; None: the closed one.
        requests: how many may be sent, retries included; None: any number.
        seconds: how long new ones are begun; None: until they are all sent.
        retries: how often one is tried again after 408, 409, 429 and 5xx.
    """

    concurrency: int
    rate: Optional[float]
    requests: Optional[int]
    seconds: Optional[float]
    retries: int

    @property
    def most(self) -> Optional[int]:
        """How many may be sent, retries included; None: nobody can tell."""
        if self.rate is None or self.seconds is None:
            return self.requests
        timed = math.ceil(self.rate * self.seconds) * (1 + self.retries)
        return timed if self.requests is None else min(self.requests, timed)


class Load:
    """What was sent, and what came of it.

    Attributes:
        latencies: seconds to the whole answer, as a caller sees them; in the open loop since the
            request was due. Of answers whose status is no error.
        first_bytes: seconds to the first byte of the same answers.
        statuses: of all answers.
        errors: by the name of the exception.
        said: the first message of each status that is an error, and of each exception, by its name.
        versions: of HTTP.
        begun: requests that were begun.
        behind: seconds by which the last request of the open loop was late at most.
        seconds: from the first request to the last answer.
    """

    def __init__(self, plan: Plan, call: Call, client: "llmpool.AsyncClient") -> None:
        self.plan = plan
        self.latencies: List[float] = []
        self.first_bytes: List[float] = []
        self.statuses: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self.said: Dict[str, str] = {}
        self.versions: Counter[str] = Counter()
        self.begun = 0
        self.behind = 0.0
        self.seconds = 0.0
        self._client = client
        self._arguments = call.arguments()
        self._left = math.inf if plan.requests is None else plan.requests
        self._began = 0.0
        self._refused: Optional[Exception] = None
        self._in_flight = 0
        self._given_back = asyncio.Event()

    @property
    def answered(self) -> int:
        return sum(self.statuses.values())

    @property
    def failed(self) -> int:
        """Requests that got no answer, or one of 4xx or 5xx."""
        bad = sum(count for status, count in self.statuses.items() if status >= 400)
        return bad + sum(self.errors.values())

    def done(self) -> float:
        """The part that is done, from 0 to 1."""
        parts = [0.0]
        if self.plan.requests is not None:
            parts.append(1 - (max(0.0, self._left) / self.plan.requests))
        if self.plan.seconds is not None:
            parts.append((perf_counter() - self._began) / self.plan.seconds)
        return min(1.0, max(parts))

    async def run(self) -> None:
        """Until all is sent and answered. Cancelled, it gives up what is in flight."""
        self._began = perf_counter()
        work = self._closed() if self.plan.rate is None else self._open(self.plan.rate)
        try:
            await work
        finally:
            self.seconds = perf_counter() - self._began
        if self._refused is not None:
            raise self._refused

    async def _closed(self) -> None:
        workers = self.plan.concurrency
        if self.plan.requests is not None:
            workers = min(workers, self.plan.requests)
        await _together([self._worker() for _ in range(workers)])

    async def _worker(self) -> None:
        while await self._may_begin():
            await self._send(perf_counter())

    async def _open(self, rate: float) -> None:
        tasks: set[asyncio.Task[None]] = set()
        try:
            while await self._may_begin():
                due = self._began + self.begun / rate
                if self.plan.seconds is not None and due >= self._began + self.plan.seconds:
                    break
                await asyncio.sleep(max(0.0, due - perf_counter()))
                self.behind = max(self.behind, perf_counter() - due)
                task = asyncio.ensure_future(self._send(due))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                await asyncio.sleep(0)  # so that it takes its share of what may be sent
            await asyncio.gather(*tasks)
        finally:
            await _cancelled(list(tasks))

    async def _may_begin(self) -> bool:
        """Waits for what those in flight have set aside for retries that they do not need."""
        limit = self.plan.seconds
        while self._refused is None and (limit is None or perf_counter() < self._began + limit):
            if self._left >= 1:
                return True
            if not self._in_flight:
                return False
            self._given_back.clear()
            await self._given_back.wait()
        return False

    async def _send(self, since: float) -> None:
        # What a request may take at most is set aside before it goes out, so that retries of
        # several at once never make more than were allowed.
        room = int(min(1 + self.plan.retries, self._left))
        self._left -= room
        self.begun += 1
        self._in_flight += 1
        try:
            response = await self._client.request(**self._arguments, retry=_retry(room - 1))
            self._left += max(0, room - response.attempts)
        except UNSENDABLE as error:  # nor can the others be sent
            self._refused = error
            return
        except HTTPError as error:  # how often it was sent is not known: as often as it might
            self.errors[type(error).__name__] += 1
            self.said.setdefault(type(error).__name__, str(error))
            return
        finally:
            self._in_flight -= 1
            self._given_back.set()
        self._note(response, perf_counter() - since)

    def _note(self, response: llmpool.Response, seconds: float) -> None:
        self.statuses[response.status_code] += 1
        self.versions[response.http_version] += 1
        if response.is_error:  # often fast, and no answer
            self._note_error(response)
            return
        self.latencies.append(seconds)
        timings = response.timings
        if timings.first_byte is not None and timings.done is not None:
            # By the caller's clock, as the whole is.
            self.first_bytes.append(max(0.0, seconds - (timings.done - timings.first_byte)))

    def _note_error(self, response: llmpool.Response) -> None:
        name = f"HTTP {response.status_code}"
        if name not in self.said:
            try:
                response.raise_for_status()
            except HTTPError as error:
                self.said[name] = str(error)


def _retry(count: int) -> RetryTypes:
    return llmpool.Retry(status=True, max_retries=count) if count > 0 else False


async def _together(coroutines: List[Coroutine[Any, Any, None]]) -> None:
    """Runs them all; where one fails, or this is cancelled, the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        await _cancelled(tasks)


async def _cancelled(tasks: "List[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def percentile(ordered: List[float], percent: float) -> float:
    """The smallest value that so many percent do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


class Bucket(NamedTuple):
    """
    Attributes:
        low, high: low <= a value < high; the last one's high is within.
        size: how many values are in it.
    """

    low: float
    high: float
    size: int


def histogram(values: List[float], buckets: int) -> List[Bucket]:
    """Values above 0 by size, each bucket so many times as wide as the one before."""
    low, high = min(values), max(values)
    if high <= low * 1.02:  # all the same
        return [Bucket(low, high, len(values))]
    step = (high / low) ** (1 / buckets)
    counts = [0] * buckets
    for value in values:
        counts[min(buckets - 1, int(math.log(value / low) / math.log(step)))] += 1
    return [Bucket(low * step**i, low * step ** (i + 1), count) for i, count in enumerate(counts)]
