"""The mock's limits: buckets by a clock of the test's, and what the server does when they end."""

import contextlib
import re
import time
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

import pytest
import servers

import llmpool
from llmpool.mock import MockServer
from llmpool.mock._admission import CROWDED, OVERLOADED, Admission, changes_of
from llmpool.mock._limits import Bucket, Buckets, anthropic_limits, openai_limits
from llmpool.mock._settings import Settings

HI = [{"role": "user", "content": "hi"}]
PROMPT = 3 + len('{"role": "user", "content": "hi"}') // 4  # tokens of it, as the mock counts


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


# ---- buckets


def test_a_bucket_is_refilled_evenly(clock):
    bucket = Bucket(120, clock=clock)
    assert (bucket.state.remaining, bucket.state.reset) == (120, 0)
    bucket.take(100)
    assert (bucket.state.remaining, bucket.state.reset) == (20, 50)
    assert bucket.wait(20) == 0 and bucket.wait(30) == 5 and bucket.wait(121) is None
    clock.now += 4
    assert bucket.state.remaining == 20  # as of the last look
    bucket.look()
    assert (bucket.state.remaining, bucket.state.reset) == (28, 46) and bucket.wait(30) == 1
    clock.now += 1000
    bucket.look()
    assert (bucket.state.remaining, bucket.state.reset) == (120, 0)
    assert bucket.state.limit == 120


def test_a_short_window(clock):
    bucket = Bucket(600, 1, clock=clock)
    assert bucket.state.remaining == bucket.state.limit == 10
    # More than it holds is given by a full one, which owes it then.
    assert bucket.wait(50) == 0 and bucket.wait(601) is None
    bucket.take(50)
    assert bucket.state.remaining == 0 and bucket.state.reset == 5
    assert bucket.wait(1) == pytest.approx(4.1) and bucket.wait(50) == 5


def buckets(clock, **settings):
    settings = Settings(**{"limits": "enforce", **settings})
    limits = {"requests": settings.requests_per_minute, "tokens": settings.tokens_per_minute}
    return Buckets(limits, settings, clock)


def served(clock, seconds, cost, **settings):
    """When calls are admitted of a caller who tries a hundred times a second."""
    ours, times, begin = buckets(clock, **settings), [], clock.now
    for step in range(seconds * 100):
        clock.now = begin + step / 100
        if ours.admit({"requests": 1, "tokens": cost})[1] is None:
            times.append(clock.now - begin)
    return times


@pytest.mark.parametrize(
    "settings, burst, rate",
    [
        ({"requests_per_minute": 60}, 60, 1),
        ({"requests_per_minute": 600, "limit_window": 1}, 10, 10),
        ({"requests_per_minute": 600, "limit_window": 10, "limits_start": "empty"}, 0, 10),
        ({"requests_per_minute": 600, "limit_window": 1, "stranger": 0.5}, 10, 5),
        ({"requests_per_minute": 0, "tokens_per_minute": 6000, "limit_window": 2}, 20, 10),
    ],
)
def test_the_rate_that_is_enforced(clock, settings, burst, rate):
    times = served(clock, 100, 10, **settings)
    for begin in (0, 20, 50):  # from the beginning, and when nothing is saved any more
        count = sum(begin <= at < begin + 40 for at in times)
        assert abs(count - 40 * rate - (0 if begin else burst)) <= 1, (begin, count)
    assert abs(len(times) - 100 * rate - burst) <= 1


def test_what_is_refused_takes_nothing_and_is_told_how_long(clock):
    ours = buckets(clock, requests_per_minute=60, tokens_per_minute=600)
    states, lack = ours.admit({"requests": 1, "tokens": 590})
    assert lack is None and states["tokens"].remaining == 10
    assert states["requests"].remaining == 59 and states["requests"].reset == 1
    states, lack = ours.admit({"requests": 1, "tokens": 25})
    assert (lack.what, lack.limit, lack.used, lack.requested) == ("tokens", 600, 590, 25)
    assert lack.wait == 1.5 and states["requests"].remaining == 59
    clock.now += 1.499
    assert ours.admit({"requests": 1, "tokens": 25})[1].wait == 0.001
    clock.now += 0.001
    assert ours.admit({"requests": 1, "tokens": 25})[1] is None
    assert ours.admit({"requests": 1, "tokens": 601})[1].wait is None


def test_counting_refuses_nothing_and_owes_nothing(clock):
    ours = buckets(clock, limits="count", requests_per_minute=2)
    left = [ours.admit({"requests": 1, "tokens": 1})[0]["requests"] for _ in range(5)]
    assert [state.remaining for state in left] == [1, 0, 0, 0, 0] and left[-1].reset == 60
    clock.now += 30
    assert ours.look()["requests"].remaining == 1
    assert buckets(clock, limits="off").look() == {}


def test_output_is_taken_when_it_is_known(clock):
    ours = Buckets({"output-tokens": 60}, Settings(limits="enforce"), clock)
    for _ in range(2):  # at the same time: neither knows of the other
        assert ours.admit({"output-tokens": 0})[1] is None
    for _ in range(2):
        states = ours.spend("output-tokens", 50)
    assert states["output-tokens"].remaining == 0 and states["output-tokens"].reset == 100
    lack = ours.admit({"output-tokens": 0})[1]
    assert lack.what == "output-tokens" and lack.wait == 41 and lack.used == 100
    clock.now += 41
    assert ours.admit({"output-tokens": 0})[1] is None


def test_headers(clock):
    states, _ = buckets(clock, requests_per_minute=60, tokens_per_minute=0).admit({"requests": 3})
    assert openai_limits(states) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "57",
        "x-ratelimit-reset-requests": "3s",
    }
    limits = {"requests": 10, "input-tokens": 600, "output-tokens": 300}
    ours = Buckets(limits, Settings(), clock)
    told = anthropic_limits(ours.admit({"requests": 1, "input-tokens": 400})[0])
    heads = [told[f"anthropic-ratelimit-tokens-{name}"] for name in ("limit", "remaining")]
    assert heads == ["600", "200"]
    assert told["anthropic-ratelimit-output-tokens-remaining"] == "300"
    told = anthropic_limits(ours.spend("output-tokens", 250))
    assert told["anthropic-ratelimit-tokens-remaining"] == "50"


def test_calls_in_flight(clock):
    settings = Settings(max_concurrent=2, max_concurrent_after="5:3,9:1", overload=4)
    admission = Admission(settings, clock)

    def visit(key="a", model="m"):
        visit = admission.visit("x")
        hindrance = visit.enter(
            admission.account("OpenAI", key, model, {"requests": 100}), admission.tally(model)
        )
        if not hindrance:
            assert visit.admit(1, 1, 0) is None
            inside.append(visit)
        return hindrance

    inside = []
    assert [visit(), visit(), visit(), visit("b"), visit("b"), visit("c")] == [
        "", "", CROWDED, "", "", OVERLOADED,
    ]  # fmt: skip
    assert visit(model="nolimit-m") == ""
    for each in inside:
        each.leave("m", 0.0)
        each.leave("m", 0.0)
    assert admission.in_flight == 0
    clock.now += 5
    assert [visit() for _ in range(4)] == ["", "", "", CROWDED]
    clock.now += 4
    inside[-1].leave("m", 0.0)
    assert visit() == CROWDED
    stats = admission.stats()["m"]
    assert (stats["refused_concurrent"], stats["overloaded"]) == (3, 1)
    assert (stats["in_flight"], stats["peak"], stats["served"]) == (2, 4, 7)
    assert changes_of("") == []
    with pytest.raises(ValueError):
        changes_of("5")


# ---- the server


@pytest.fixture(scope="module")
def few():
    """Six calls a minute, or 600 tokens, of each key: any is accepted."""
    options = {"requests_per_minute": 6, "tokens_per_minute": 600}
    with MockServer(tls=False, api_key="", limits="enforce", **options) as server:
        yield server


@pytest.fixture(scope="module")
def brisk():
    """Ten calls, and then ten a second."""
    options = {"requests_per_minute": 600, "limit_window": 1}
    with MockServer(tls=False, limits="enforce", **options) as server:
        yield server


@pytest.fixture
def opened(open_client):
    def open_(server, key="", **options):
        headers = {"authorization": f"Bearer {key or server.api_key or 'any'}"}
        return open_client(server.url, headers=headers, **options)

    return open_


def chat(client, model="gpt", headers=None, **more):
    body = {"model": model, "messages": HI, **more}
    return client.post("/v1/chat/completions", json=body, headers=headers)


def claude(client, model="claude", **more):
    body = {"model": model, "messages": HI, "max_tokens": 1000, **more}
    return client.post("/v1/messages", json=body)


def left(answer, what, form="x-ratelimit-remaining-{}"):
    return int(answer.headers[form.format(what)])


def test_requests_of_openai(few, opened):
    client = opened(few, "requests")
    answers = [chat(client, stream=bool(index % 2)) for index in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 6
    assert [left(answer, "requests") for answer in answers] == [5, 4, 3, 2, 1, 0]
    cost = PROMPT + 16
    assert left(answers[0], "tokens") == 600 - cost
    assert answers[0].json()["usage"]["total_tokens"] == cost
    assert answers[1].headers["x-ratelimit-limit-tokens"] == "600"
    refused = chat(client)
    assert refused.status_code == 429 and left(refused, "requests") == 0
    wait = int(refused.headers["retry-after-ms"])
    assert 5000 < wait <= 10_000
    assert int(refused.headers["retry-after"]) == -(-wait // 1000)
    assert refused.headers["x-ratelimit-reset-requests"].endswith("s")
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert "Rate limit reached for gpt" in error["message"]
    assert "(RPM): Limit 6, Used 6, Requested 1. Please try again in" in error["message"]
    # Of another model, another key, another provider, and of none.
    assert chat(client, "gpt-other").status_code == 200
    assert chat(opened(few, "other")).status_code == 200
    assert claude(client, "gpt").status_code == 200
    assert client.get("/v1/models").status_code == 200
    free = [chat(client, "nolimit-gpt") for _ in range(9)]
    assert {answer.status_code for answer in free} == {200}
    assert not [name for name in free[0].headers if "ratelimit" in name]


def test_tokens_of_openai(few, opened):
    client = opened(few, "tokens")
    answer = chat(client, max_tokens=400)  # taken whole, though the answer is shorter
    assert left(answer, "tokens") == 600 - PROMPT - 400
    refused = chat(client, max_completion_tokens=300)
    error = refused.json()["error"]
    assert refused.status_code == 429 and error["type"] == "tokens"
    used, requested = map(
        int,
        re.search(r"\(TPM\): Limit 600, Used (\d+), Requested (\d+)\.", error["message"]).groups(),
    )
    assert PROMPT + 350 < used <= PROMPT + 400 and requested == PROMPT + 300
    wait = int(refused.headers["retry-after-ms"]) / 1000  # ten tokens a second
    assert used - 1 <= 600 - requested + 10 * wait <= used
    large = chat(client, max_tokens=600)
    assert large.status_code == 429 and large.headers["x-should-retry"] == "false"
    assert "retry-after" not in large.headers and "retry-after-ms" not in large.headers
    assert large.json()["error"]["message"].startswith("Request too large for gpt")
    assert large.json()["error"]["code"] == "rate_limit_exceeded"
    assert left(large, "requests") == 5
    body = {"model": "other", "input": "hi", "max_output_tokens": 100}
    answer = client.post("/v1/responses", json=body)
    assert left(answer, "tokens") == 600 - answer.json()["usage"]["input_tokens"] - 100
    answer = client.post("/v1/embeddings", json={"model": "third", "input": "hi"})
    assert left(answer, "tokens") == 600 - answer.json()["usage"]["total_tokens"]


def test_it_is_admitted_after_the_time_that_was_told(brisk, opened):
    client = opened(brisk)
    refused = next(each for each in (chat(client) for _ in range(500)) if each.status_code == 429)
    assert left(refused, "requests") == 0 and refused.headers["retry-after"] == "1"
    assert refused.headers["x-ratelimit-limit-requests"] == "10"  # what its second holds
    wait = int(refused.headers["retry-after-ms"]) / 1000
    assert 0 < wait <= 0.1
    time.sleep(wait)
    assert chat(client).status_code == 200
    time.sleep(0.5)
    assert left(chat(client), "requests") >= 3


def test_an_sdk_waits_and_is_served(brisk):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=brisk.url + "/v1", api_key=brisk.api_key, max_retries=9)
    for _ in range(13):
        assert client.chat.completions.create(model="sdk", messages=HI).choices
    stats = brisk.stats()["limits"]["sdk"]
    assert stats["served"] == 13


def test_input_and_output_of_anthropic(opened):
    limits = {"input_tokens_per_minute": 4 * PROMPT, "output_tokens_per_minute": 60}
    with MockServer(tls=False, api_key="", limits="enforce", **limits) as server:
        client, form = opened(server), "anthropic-ratelimit-{}-remaining"
        answer = claude(client, max_tokens=100_000)  # which does not count
        assert left(answer, "output-tokens", form) == 44
        assert left(answer, "input-tokens", form) == left(answer, "tokens", form) == 3 * PROMPT
        assert answer.headers["anthropic-ratelimit-output-tokens-limit"] == "60"
        reset = answer.headers["anthropic-ratelimit-output-tokens-reset"]
        reset = datetime.strptime(reset, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        assert 5 < (reset - datetime.now(timezone.utc)).total_seconds() < 18
        assert claude(client, "long-80", stream=True).status_code == 200
        assert claude(client, "long-80").status_code == 429  # the stream took more than there was
        refused = claude(client, "long-80")
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert "60 output tokens per minute" in refused.json()["error"]["message"]
        assert 10 < int(refused.headers["retry-after"]) <= 21
        assert "retry-after-ms" not in refused.headers
        assert refused.headers["x-should-retry"] == "true"
        assert left(refused, "output-tokens", form) == 0
        many = [claude(client, "long-1") for _ in range(5)]
        assert [answer.status_code for answer in many[:4]] == [200] * 4
        assert "input tokens per minute" in many[4].json()["error"]["message"]
        large = claude(client, messages=[{"role": "user", "content": "hi " * 100}])
        assert large.status_code == 429 and large.headers["x-should-retry"] == "false"
        assert "retry-after" not in large.headers
        count = client.post("/v1/messages/count_tokens", json={"model": "long-1", "messages": HI})
        assert count.status_code == 200
        seen = server.stats()["limits"]["long-80"]
        assert (seen["served"], seen["refused"], seen["output"]) == (1, 2, 80)
        assert seen["tokens"] == PROMPT + 80 and seen["in_flight"] == 0


def test_refusals_of_the_others(few, open_client):
    gemini = open_client(few.url, headers={"x-goog-api-key": "gemini"})
    body = {"contents": [{"parts": [{"text": "hi"}]}]}
    path = "/v1beta/models/gemini-x:generateContent"
    answers = [gemini.post(path, json=body) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 6 + [429]
    error = answers[-1].json()["error"]
    assert (
        error["status"] == "RESOURCE_EXHAUSTED" and "limit: 6, model: gemini-x" in error["message"]
    )
    quota, retry = error["details"]
    assert quota["@type"].endswith("QuotaFailure") and retry["@type"].endswith("RetryInfo")
    assert quota["violations"][0]["quotaValue"] == "6"
    assert 5 < float(retry["retryDelay"].rstrip("s")) <= 10
    headers = {"authorization": "Bearer mistral", "user-agent": "mistral-client"}
    mistral = open_client(few.url, headers=headers)
    answers = [chat(mistral) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 6 + [429]
    assert answers[0].headers["x-ratelimit-tokens-query-cost"] == str(PROMPT + 16)
    assert answers[-1].headers["x-ratelimit-remaining-req-minute"] == "0"
    assert answers[-1].json()["type"] == "rate_limited"
    cohere = open_client(few.url, headers={"authorization": "Bearer cohere"})
    body = {"model": "command", "messages": HI}
    answers = [cohere.post("/v2/chat", json=body) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 6 + [429]
    assert 5 < int(answers[-1].headers["retry-after"]) <= 10


def test_calls_at_the_same_time(opened):
    options = {"max_concurrent": 2, "overload": 3, "retry_after": 2, "alive_interval": 0.05}
    with MockServer(tls=False, api_key="", **options) as server, contextlib.ExitStack() as stack:
        one, two = opened(server, "one"), opened(server, "two")

        def hold(client):
            body = {"model": "stall-0", "messages": HI, "stream": True}
            held = contextlib.ExitStack()
            held.enter_context(client.stream("POST", "/v1/chat/completions", json=body))
            return stack.enter_context(held)

        first = hold(one)
        hold(one)
        crowded = chat(one, "stall-0")
        assert crowded.status_code == 429 and "retry-after" not in crowded.headers
        assert not [name for name in crowded.headers if "ratelimit" in name]
        assert chat(one).status_code == 200  # another model
        hold(two)
        busy = chat(two)
        assert busy.status_code == 503 and busy.headers["retry-after"] == "2"
        assert busy.json()["error"]["code"] == "server_is_overloaded"
        busy = claude(two)
        assert busy.status_code == 529 and busy.headers["retry-after"] == "2"
        assert busy.json()["error"]["type"] == "overloaded_error"
        stats = server.stats()["limits"]
        assert stats["stall-0"]["in_flight"] == stats["stall-0"]["peak"] == 3
        assert stats["stall-0"]["refused_concurrent"] == 1 and stats["claude"]["overloaded"] == 1
        first.close()
        assert servers.wait_until(lambda: server.stats()["limits"]["stall-0"]["in_flight"] == 2)
        assert chat(two).status_code == 200


def test_the_number_at_the_same_time_changes(opened):
    options = {"max_concurrent": 5, "max_concurrent_after": "0:1", "alive_interval": 0.05}
    with MockServer(tls=False, **options) as server:
        client = opened(server)
        body = {"model": "stall-0", "messages": HI, "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=body):
            assert chat(client, "stall-0").status_code == 429
    with pytest.raises(RuntimeError, match="--max-concurrent-after"):
        MockServer(tls=False, max_concurrent_after="soon").start()


def test_the_log_of_calls(few, opened):
    client = opened(few, "log")
    before = len(few.calls())
    for index in range(7):
        chat(client, "lasts-0.05", headers={"x-call": f"call {index}"}, max_tokens=10)
    calls = few.calls(before)
    assert len(calls) == 7 and few.calls(before + 5) == calls[5:] and few.calls(10**9) == []
    assert [call[1:4] for call in calls[:6]] == [["lasts-0.05", 200, PROMPT + 10]] * 6
    assert calls[6][1:4] == ["lasts-0.05", 429, 0] and calls[6][6] == 0
    assert [call[5] for call in calls] == [f"call {index}" for index in range(7)]
    assert all(call[4] >= 0.05 and call[6] == 1 for call in calls[:6])
    assert [call[0] for call in calls] == sorted(call[0] for call in calls)
    chat(client, "error-500")
    ((_, model, status, tokens, _, name, _),) = few.calls(before + 7)
    assert (model, status, tokens) == ("error-500", 500, 0) and name.startswith("req_")
    stats = few.stats()["limits"]["lasts-0.05"]
    assert stats == {
        "served": 6, "refused": 1, "refused_concurrent": 0, "overloaded": 0, "in_flight": 0,
        "peak": 1, "input": 6 * PROMPT, "output": 60, "tokens": 6 * (PROMPT + 10),
    }  # fmt: skip
    answer = llmpool.get(few.url + "/_mock/calls?since=x")
    assert answer.headers["x-next"] == str(len(answer.json())) == str(before + 8)


@pytest.mark.parametrize("http", ["1", "2"])
def test_a_clock_that_is_wrong(http, opened):
    with MockServer(tls=False, http=http, limit_clock_offset=-3600) as server:
        answer = claude(opened(server, http1=http == "1"))
        assert len(answer.headers.get_list("date")) == 1
        now = datetime.now(timezone.utc)
        date = parsedate_to_datetime(answer.headers["date"])
        assert -3600 - 5 < (date - now).total_seconds() < -3600 + 5
        reset = answer.headers["anthropic-ratelimit-requests-reset"]
        reset = datetime.strptime(reset, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        assert -3600 - 5 < (reset - now).total_seconds() < -3600 + 5


def test_a_429_that_is_made_up_has_headers_as_well(mock_plain, opened):
    answer = chat(opened(mock_plain), "error-429")
    assert left(answer, "requests") == 0 and answer.headers["x-ratelimit-reset-requests"] == "1s"
    assert left(answer, "tokens") == 2_000_000 and answer.headers["retry-after-ms"] == "1000"
    with MockServer(tls=False, limits="off", requests_per_minute=1) as server:
        answers = [chat(opened(server), model) for model in ("error-429", "gpt", "gpt")]
        assert [answer.status_code for answer in answers] == [429, 200, 200]
        assert not [name for each in answers for name in each.headers if "ratelimit" in name]
