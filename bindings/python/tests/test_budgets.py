"""Budgets: what requests share of a provider's limits. What goes when is tested with the core."""

import asyncio
import ctypes
import gzip
import json
import re
import threading
import time
import tracemalloc

import pytest
import servers
import statistics_socket

import llmpool
from llmpool._fleet.demand import Grant
from llmpool._fleet.leases import Leases
from llmpool._http import budgets as reading
from llmpool._native import abi
from llmpool._native.failures import check
from llmpool._native.library import lib

CHAT = "/v1/chat/completions"
BODY = {"model": "gpt-mock", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def mock():
    from llmpool.mock import MockServer

    with MockServer(retry_after=30) as server:
        yield server


@pytest.fixture
def client(mock, open_pool):
    pool = open_pool(ca_file=mock.ca_file)
    headers = {"authorization": f"Bearer {mock.api_key}"}
    return llmpool.Client(base_url=mock.url, headers=headers, pool=pool)


def tokens_left(pool, name, told=False):
    """What remains of each limit by its unit."""
    return {
        limit.unit: limit.remaining for limit in pool.budgets()[name].limits if limit.told == told
    }


# ---- a budget


def test_the_limits_of_a_budget_hold(client):
    budget = llmpool.Budget("pace", requests_per_minute=120, burst=1, learn=False, pool=client.pool)
    client.budget = budget
    start = time.monotonic()
    answers = [client.post(CHAT, json=BODY) for _ in range(4)]
    # Two at once, then two a second.
    assert time.monotonic() - start >= 0.9
    assert all(answer.is_success and answer.timings.budgeted for answer in answers)
    assert client.get("/v1/models", budget=None).timings.budgeted is None


def test_what_is_more_than_a_limit_is_an_error(client):
    budget = llmpool.Budget("small", tokens_per_minute=100, pool=client.pool)
    with pytest.raises(llmpool.BudgetExceeded, match="budget small allows 100 tokens") as caught:
        client.post(CHAT, json=BODY, budget=budget.spend(60, 50))
    assert caught.value.unseen and caught.value.status == "LLMPOOL_E_BUDGET"


def test_a_call_within_a_stream_of_the_same_budget_ends(client):
    budget = llmpool.Budget("one", max_concurrent=1, pool=client.pool)
    slow = {**BODY, "model": "stall-1", "stream": True}
    with client.stream("POST", CHAT, json=slow, budget=budget) as stream:
        with pytest.raises(
            llmpool.BudgetTimeout, match="max_concurrent 1, held by stream"
        ) as caught:
            client.post(CHAT, json=BODY, budget="one", timeout=llmpool.Timeout(budget=0.1))
        assert isinstance(caught.value, llmpool.PoolTimeout) and caught.value.unseen
        assert stream.status_code == 200
        assert client.pool.budgets()["one"].in_flight == 1


def test_a_budget_is_made_known_to_each_pool_that_uses_it(mock, open_pool):
    first, second = open_pool(ca_file=mock.ca_file), open_pool(ca_file=mock.ca_file)
    budget = llmpool.Budget("two", requests_per_day=10, learn=False, pool=first)
    headers = {"authorization": f"Bearer {mock.api_key}"}
    with llmpool.Client(base_url=mock.url, headers=headers, pool=second, budget=budget) as client:
        client.post(CHAT, json=BODY)
    assert tokens_left(first, "two") == {"requests": 10}
    assert tokens_left(second, "two") == {"requests": 9}


def test_a_budget_is_configured_anew(open_pool):
    pool = open_pool()
    llmpool.Budget("again", requests_per_minute=10, max_concurrent=3, pool=pool)
    llmpool.Budget("again", tokens_per_day=5, burst=2, pool=pool)
    state = pool.budgets()["again"]
    assert [limit.unit for limit in state.limits] == ["tokens"] and state.max_concurrent is None


@pytest.mark.parametrize(
    "arguments, error",
    [
        ({"requests_per_minute": 0}, "requests_per_minute is None .no limit. or from 1"),
        ({"tokens_per_minute": 1.5}, "tokens_per_minute is a whole number"),
        ({"max_concurrent": -1}, "max_concurrent is None"),
        ({"burst": -1}, "burst is a number of seconds"),
        ({"name": ""}, "1 to 200 bytes"),
        ({"name": "a\nb"}, "control character"),
        ({"name": 5}, "the name of a budget is a str, not int"),
    ],
)
def test_what_a_budget_cannot_be(open_pool, arguments, error):
    with pytest.raises((ValueError, TypeError), match=error):
        llmpool.Budget(**{"name": "b", "pool": open_pool(), **arguments})


def test_what_budget_takes(client):
    for budget in (5, llmpool.Limits(), lambda request: 5):
        with pytest.raises(TypeError, match=r"budget is a llmpool.Budget, a Spending, a name"):
            client.get("/v1/models", budget=budget)
    with pytest.raises(ValueError, match="input_tokens is from 0"):
        llmpool.Spending("b", -1)
    assert client.get("/v1/models", budget=lambda request: None).timings.budgeted is None


def test_a_function_sees_the_request(client):
    seen = []

    def choose(request):
        seen.append((request.method, request.url, request.header("x-team"), request.body))
        return "team-a"

    client.post(CHAT, json=BODY, headers={"X-Team": " a"}, budget=choose)
    ((method, url, team, body),) = seen
    assert (method, url, team) == ("POST", str(client.base_url)[:-1] + CHAT, "a")
    assert json.loads(body) == BODY
    assert "team-a" in client.pool.budgets()


# ---- what was really taken


@pytest.mark.parametrize("streamed", [False, True])
def test_usage_settles(client, streamed):
    name = f"used-{streamed}"
    budget = llmpool.Budget(name, tokens_per_day=100_000, learn=False, pool=client.pool)
    body = {**BODY, "stream": streamed, "stream_options": {"include_usage": True}}
    if streamed:
        with client.stream("POST", CHAT, json=body, budget=budget.spend(5_000, 5_000)) as stream:
            events = [event.data for event in stream.iter_sse(stop="[DONE]")]
        (usage,) = (u for u in (json.loads(e).get("usage") for e in events) if u)
    else:
        del body["stream_options"]
        usage = client.post(CHAT, json=body, budget=budget.spend(5_000, 5_000)).json()["usage"]
    expected = 100_000 - usage["total_tokens"]
    assert servers.wait_until(lambda: abs(tokens_left(client.pool, name)["tokens"] - expected) < 50)


def test_usage_settles_in_asyncio_and_raw(mock, open_pool):
    pool = open_pool(ca_file=mock.ca_file)
    headers = {"authorization": f"Bearer {mock.api_key}"}
    budget = llmpool.Budget("aio", tokens_per_day=100_000, learn=False, pool=pool)
    body = {**BODY, "stream": True, "stream_options": {"include_usage": True}}

    async def main():
        spending = budget.spend(5_000, 5_000)
        async with llmpool.AsyncClient(base_url=mock.url, headers=headers, pool=pool) as client:
            await client.post(CHAT, json=BODY, budget=spending)
            async with client.stream("POST", CHAT, json=body, sse=False, budget=spending) as stream:
                async for _ in stream.aiter_bytes():
                    pass

    asyncio.run(main())
    assert servers.wait_until(lambda: tokens_left(pool, "aio")["tokens"] > 99_800)


@pytest.mark.parametrize(
    "answer, expected",
    [
        (b'{"usage":{"prompt_tokens":11,"completion_tokens":16,"total_tokens":27}}', (11, 16)),
        (b'{"usage": {"input_tokens": 9, "output_tokens": 4}}', (9, 4)),
        (
            b'{"usage":{"input_tokens":9,"cache_creation_input_tokens":5,"output_tokens":4}}',
            (14, 4),
        ),
        (b'{"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":7}}', (3, 7)),
        (b'{"usage":{"prompt_tokens":8,"total_tokens":8}}', (8, 0)),
        (b'{"text":"{\\"input_tokens\\":9}"}', None),
        (b"not JSON", None),
        (b"", None),
    ],
)
def test_where_usage_stands(answer, expected):
    assert reading.usage(answer) == expected


@pytest.mark.parametrize("size", [1, 7, 64])
def test_usage_in_pieces(size):
    """A number that is cut between two pieces is one number."""
    body = b'{"x": 1, "usage": {"prompt_tokens": 1234, "completion_tokens": 5678}}'
    meter = reading.Meter()
    for start in range(0, len(body), size):
        meter.note([body[start : start + size]])
    assert meter.read() == (1234, 5678)


def test_usage_of_an_encoded_answer():
    body = gzip.compress(b'{"usage": {"prompt_tokens": 1234, "completion_tokens": 5678}}')
    headers = b"content-type: application/json\r\nContent-Encoding: gzip\r\n"
    meter = reading.Meter()
    meter.note([body[:20], body[20:30]], headers)
    meter.note([body[30:]], headers)
    assert meter.read(headers) == (1234, 5678)
    meter = reading.Meter()
    meter.note([b"not gzip"], headers)
    assert meter.read(headers) is None


def test_an_answer_that_breaks_keeps_what_it_was_taken_for(open_pool):
    def handle(connection, _):
        servers.read_request(connection)
        event = b'data: {"usage":{"input_tokens":25,"output_tokens":1}}\n\n'
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n"
        connection.sendall(head + event)

    pool = open_pool()
    budget = llmpool.Budget("broken", tokens_per_day=100_000, learn=False, pool=pool)
    with servers.RawServer(handle) as server, llmpool.Client(pool=pool) as client:
        spending = budget.spend(1_000, 5_000)
        with (
            pytest.raises(llmpool.TransportError),
            client.stream("POST", server.url, budget=spending) as stream,
        ):
            list(stream.iter_sse())
    assert tokens_left(pool, "broken")["tokens"] < 94_100


def test_usage_of_a_stream_whose_input_stands_at_its_beginning():
    meter = reading.Meter()
    meter.note([b'{"message":{"usage":{"input_tokens":25,"output_tokens":1}}}'])
    for _ in range(100):
        meter.note([b'{"delta":{"text":"word"}}'] * 3)
    meter.note([b'{"usage":{"output_tokens":15}}', b'{"type":"message_stop"}'])
    assert meter.read() == (25, 15)


# ---- what answers tell


def test_what_answers_tell_holds(client):
    client.post(CHAT, json=BODY, budget="told")
    state = client.pool.budgets()["told"]
    assert {limit.unit for limit in state.limits if limit.told} == {"requests", "tokens"}
    assert state.refusals == 0 and state.adaptive is None


def test_a_shared_budget_as_it_stands(open_pool):
    pool = open_pool()
    llmpool.Budget("shared", requests_per_minute=60, pool=pool)
    leases = Leases(pool, ["shared"])
    leases.share(0.25, has_store=True)
    assert servers.wait_until(lambda: pool.budgets()["shared"].shared)
    state = pool.budgets()["shared"]
    assert (state.leased, state.lease, state.members, state.lapses) == (False, 0, None, 0)
    demand = leases.demand("shared")
    leases.grant("shared", demand, Grant(60_000, 5, 3, 0, ((60, 20),)))
    assert servers.wait_until(lambda: pool.budgets()["shared"].leased)
    state = pool.budgets()["shared"]
    assert 50 < state.lease <= 60 and (state.members, state.places) == (5, 3)
    assert (state.limits[0].remaining, state.limits[0].spent) == (20, 0)
    leases.alone()
    assert servers.wait_until(lambda: not pool.budgets()["shared"].shared)


def test_a_refusal_is_logged(client, caplog):
    with caplog.at_level("INFO", "llmpool"):
        answer = client.post(CHAT, json={**BODY, "model": "error-429"}, budget="stopped")
        assert answer.status_code == 429
        assert servers.wait_until(lambda: "budget stopped stops for" in caplog.text)
    state = client.pool.budgets()["stopped"]
    assert state.refusals == 1 and 0 < state.stopped_for <= 30
    with pytest.raises(llmpool.BudgetTimeout, match="an answer has stopped it, for another"):
        client.post(CHAT, json=BODY, budget="stopped", timeout=llmpool.Timeout(budget=0.1))


def test_metrics_show_budgets(client):
    llmpool.Budget('with "quotes"', requests_per_minute=60, learn=False, pool=client.pool)
    client.post(CHAT, json=BODY, budget='with "quotes"')
    text = client.pool.metrics()
    label = r"with \"quotes\""
    assert f'llmpool_budget_in_flight{{budget="{label}"}} 0' in text
    labels = f'budget="{label}",unit="requests",window="60.0",source="configured"'
    assert f"llmpool_budget_limit{{{labels}}} 60" in text


def test_more_names_than_are_remembered_at_once(mock, open_pool):
    """Those that are forgotten may be wanted again in the same breath."""
    pool = open_pool(ca_file=mock.ca_file, limits=llmpool.Limits(max_streams_per_connection=1000))
    headers = {"authorization": f"Bearer {mock.api_key}"}
    names = [f"b{number * 7919 % 2_000}" for number in range(4_500)]

    async def main():
        async with llmpool.AsyncClient(base_url=mock.url, headers=headers, pool=pool) as client:
            for start in range(0, len(names), 1_500):
                some = names[start : start + 1_500]
                answers = await asyncio.gather(
                    *(client.get("/v1/models", budget=name) for name in some)
                )
                assert all(answer.is_success for answer in answers)

    asyncio.run(main())
    states = pool.budgets()
    assert len(states) <= 1_000
    assert not any(state.in_flight or state.waiting for state in states.values())


@pytest.mark.parametrize(
    "reset", ["999999999999999999", "9999-12-31T23:59:59Z", "1ms", "-1", "inf", "9999999h"]
)
def test_no_answer_is_too_much(open_pool, reset):
    def handle(connection, _):
        buffer = b""
        while True:
            _, _, buffer = servers.read_request(connection, buffer)
            lines = (
                "x-ratelimit-limit-tokens: 999999999999999999\r\n"
                "x-ratelimit-remaining-tokens: 0\r\nretry-after: 2000000\r\n"
                f"x-ratelimit-reset-tokens: {reset}\r\nanthropic-ratelimit-requests-limit: 5\r\n"
                f"anthropic-ratelimit-requests-remaining: 1\r\n"
                f"anthropic-ratelimit-requests-reset: {reset}\r\n"
            )
            servers.answer(connection, b"", lines.encode(), b"429 Too Many Requests")

    pool = open_pool()
    with servers.RawServer(handle) as server, llmpool.Client(pool=pool) as client:
        assert client.get(server.url, budget="b").status_code == 429
        state = pool.budgets()["b"]
        assert 0 < state.stopped_for <= 600 and "budget_remaining" in pool.metrics()
        with pytest.raises(llmpool.BudgetTimeout):
            client.get(server.url, budget="b")


def test_many_budgets_are_one_in_metrics_and_are_forgotten(client):
    for number in range(1_100):
        client.get("/v1/models", budget=f"b{number}")
    assert len(client.pool.budgets()) <= 1_000
    text = client.pool.metrics()
    assert text.count("llmpool_budget_waiting{") == 65 and 'budget_waiting{budget="other"}' in text


def test_of_two_limits_alike_the_stricter_is_in_the_metrics(client):
    """A series that is there twice makes Prometheus refuse all of them."""
    pool = client.pool
    limits = (abi.Limit * 2)()
    for limit, amount in zip(limits, (60, 30)):
        limit.unit, limit.amount, limit.window_ms = abi.UNIT_REQUESTS, amount, 60_000
    budget = abi.Budget(size=ctypes.sizeof(abi.Budget))
    size = ctypes.sizeof(abi.Limit)
    check(lib.budget_configure(pool._handle, b"alike", ctypes.byref(budget), limits, size, 2))
    assert servers.wait_until(lambda: "alike" in pool.metrics())
    samples = re.findall(r'^llmpool_budget_limit\{budget="alike",.*$', pool.metrics(), re.MULTILINE)
    assert [sample.rpartition(" ")[2] for sample in samples] == ["30"]


# ---- beside SDKs, and auto_budget


def test_options_and_adapters(mock, open_pool):
    httpx2 = pytest.importorskip("httpx2")
    from llmpool.httpx2 import Transport

    transport = Transport(verify=mock.ca_file)
    headers = {"authorization": f"Bearer {mock.api_key}"}
    with httpx2.Client(transport=transport, base_url=mock.url, headers=headers) as client:
        with llmpool.options(budget=llmpool.auto_budget):
            assert client.post(CHAT, json=BODY).status_code == 200
        extension = {"llmpool": {"budget": "by-extension"}}
        assert client.post(CHAT, json=BODY, extensions=extension).status_code == 200
        names = list(transport.pool.budgets())
    assert "by-extension" in names
    assert any(name.startswith(mock.url.partition("://")[2] + "/gpt-mock #") for name in names)


def test_no_digits_of_a_credential_are_shown(client, tmp_path):
    """Metrics, the socket and messages have a number instead."""
    client.budget = llmpool.auto_budget
    body = {**BODY, "model": "error-429"}
    assert client.post(CHAT, json=body, retry=False).status_code == 429
    with pytest.raises(llmpool.BudgetTimeout) as caught:
        client.post(CHAT, json=body, timeout=llmpool.Timeout(budget=0.05), retry=False)
    (name,) = client.pool.budgets()
    label, _, digits = name.partition(" #")
    with statistics_socket.serving_pools(tmp_path, [client.pool]):
        document = json.dumps(statistics_socket.ask(tmp_path))
    for text in (client.pool.metrics(), document, str(caught.value)):
        assert f"{label}/1" in text and digits not in text


def automatic(url="https://api.example.com/v1/chat/completions", body=b"", **headers):
    block = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return llmpool.auto_budget(llmpool.BudgetRequest("POST", url, block.encode(), body))


def test_auto_budget_names_origin_model_and_credential():
    body = json.dumps({**BODY, "model": "gpt-5"}).encode()
    first = automatic(body=body, authorization="Bearer sk-one")
    assert re.fullmatch("api.example.com/gpt-5 #[0-9a-f]{12}", first.name)
    assert first.estimated and first.input_tokens == len(body) // 4 and first.output_tokens == 0
    assert automatic(body=body, authorization="Bearer sk-one").name == first.name
    assert automatic(body=body, authorization="bearer sk-two").name != first.name
    assert "sk-one" not in first.name
    assert automatic(body=body, x_api_key="sk-one").name == first.name
    assert (
        automatic(body=body, authorization="Bearer eyJh.eyJz.sig").name == "api.example.com/gpt-5"
    )
    assert automatic(body=body).name == "api.example.com/gpt-5"


@pytest.mark.parametrize(
    "url, model",
    [
        ("https://x.openai.azure.com/openai/deployments/my-gpt/chat/completions?v=1", "my-gpt"),
        ("https://g.example/v1beta/models/gemini-3-pro:generateContent", "gemini-3-pro"),
        ("https://b.example/model/anthropic.claude-v9/invoke", "anthropic.claude-v9"),
    ],
)
def test_auto_budget_finds_the_model_in_the_path(url, model):
    assert automatic(url, b'{"a":1}').name.partition("/")[2] == model


def test_auto_budget_is_not_misled():
    nested = {"messages": [{"content": [{"input": {"model": "inner"}}]}], "model": "outer"}
    assert automatic(body=json.dumps(nested).encode()).name.endswith("/outer")
    quoted = {"messages": [{"content": '{"model": "inner"}'}], "model": "outer"}
    assert automatic(body=json.dumps(quoted).encode()).name.endswith("/outer")
    assert automatic(body=b"") is None and automatic(body=b'{"model": 5}') is None


def test_auto_budget_of_a_signature_and_of_an_address():
    body = b'{"model": "m"}'
    signed = "AWS4-HMAC-SHA256 Credential={}/20260101/us-east-1/bedrock/aws4_request, Signature={}"
    names = {
        automatic(body=body, authorization=signed.format("AKIAKEY", number)).name
        for number in range(3)
    }
    assert len(names) == 1 and "#" in names.pop()
    temporary = automatic(body=body, authorization=signed.format("ASIAKEY", 1)).name
    assert temporary == "api.example.com/m"
    assert automatic("https://h?key=secret", body).name == "h/m"
    assert automatic("https://user:secret@h/v1", body).name == "h/m"


@pytest.mark.parametrize("secret", ["fleet", b"fleet"])
def test_processes_with_one_secret_name_a_budget_alike(secret, run_python):
    block = b"content-type: application/json\r\nAuthorization: Bearer sk-one\r\n"
    request = "POST", "https://h/v1", block, b'{"model": "m"}'
    script = f"""
import llmpool
request = llmpool.BudgetRequest(*{request})
print(llmpool.AutoBudget(secret={secret!r})(request).name)
print(llmpool.auto_budget(request).name)
"""
    ours = llmpool.AutoBudget(secret=secret)(llmpool.BudgetRequest(*request)).name
    theirs, own = run_python(script).stdout.splitlines()
    assert theirs == ours and re.fullmatch("h/m #[0-9a-f]{12}", ours)
    # Without one it is that of the process.
    names = {ours, own, llmpool.auto_budget(llmpool.BudgetRequest(*request)).name}
    other = llmpool.AutoBudget(secret="another")(llmpool.BudgetRequest(*request)).name
    assert len({*names, other}) == 4


def test_what_a_secret_cannot_be():
    for wrong in ("", b""):
        with pytest.raises(ValueError, match="secret is empty"):
            llmpool.AutoBudget(secret=wrong)
    with pytest.raises(TypeError, match="secret is a str, bytes or None, not int"):
        llmpool.AutoBudget(secret=5)


def test_auto_budget_finds_the_outermost_model():
    call = {"role": "assistant", "tool": {"input": {"model": "inner", "text": '\\"{'}}}
    for body in (
        {"model": "outer", "messages": [call, call], "tools": [call]},
        {"messages": [call, call], "tools": [call], "model": "outer"},
        {"messages": [call], "model": "outer", "metadata": call},
        {"messages": [call], "model": "outer", "text": "]}" * 40_000, "metadata": call},
    ):
        for indent in (None, 2):
            text = json.dumps(body, indent=indent).encode()
            assert automatic(body=text).name.endswith("/outer")
    assert automatic(body=json.dumps({"messages": [call, call]}).encode()) is None


@pytest.mark.parametrize("header", ["Authorization", "authorization", "X-Api-Key", "api-key"])
def test_auto_budget_finds_the_credential(header):
    def name(block):
        request = llmpool.BudgetRequest("POST", "https://h/v1", block, b'{"model": "m"}')
        return llmpool.auto_budget(request).name

    line = f"{header}:  Bearer  one\r\n".encode()
    assert name(line) == name(b"a: b\r\n" + line + b"c: d\r\n") == name(b"api-key: one")
    assert name(b"proxy-" + line) == "h/m" == name(b"a: authorization: b\r\n")


BIG = 10_000_000


@pytest.mark.parametrize(
    "content, tokens",
    [
        ("word " * (BIG // 5), BIG // 4),
        ('line "quoted"\n' * (BIG // 14), BIG // 4),
        ("data:image/png;base64," + "A" * BIG, 0),
        ("A" * BIG, 0),
        (["A" * 600] * (BIG // 600), BIG // 600 // 2),  # what stands between them
    ],
    ids=["text", "quotes", "data", "base64", "many"],
)
def test_auto_budget_copies_no_body(content, tokens):
    call = {"model": "inner"}  # so that it looks at the structure, too
    value = {"messages": [{"content": content, "call": call}], "model": "m", "max_tokens": 9}
    body = json.dumps(value).encode()
    automatic(body=b'{"model": "m"}')
    tracemalloc.start()
    try:
        spending = automatic(body=body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000
    assert spending.name == "api.example.com/m" and spending.output_tokens == 9
    assert tokens <= spending.input_tokens <= tokens * 1.3 + 50


def test_the_body_is_given_as_it_is(client):
    """What chooses the budget sees what is sent, and no copy."""
    body = json.dumps(BODY).encode()
    seen = []
    client.post(
        CHAT,
        content=body,
        headers={"content-type": "application/json"},
        budget=lambda request: seen.append(request.body),
    )
    assert seen[0] is body


def test_auto_budget_guesses_the_cost():
    huge = b'{"model": "m", "max_tokens": 999999999, "n": 9999}'
    assert automatic(body=huge).output_tokens == 1 << 40
    picture = {"url": "data:image/png;base64," + "A" * 40_000}
    body = json.dumps({"model": "m", "messages": [picture], "max_tokens": 300, "n": 2}).encode()
    spending = automatic(body=body)
    assert spending.input_tokens < 50 and spending.output_tokens == 600
    assert automatic(body=body, anthropic_version="2023-06-01").output_tokens == 0


def test_threads_share_a_budget(client):
    budget = llmpool.Budget("threads", max_concurrent=2, pool=client.pool)
    answers = []

    def work():
        for _ in range(5):
            answers.append(client.post(CHAT, json=BODY, budget=budget).status_code)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [200] * 40
    assert servers.wait_until(lambda: client.pool.budgets()["threads"].in_flight == 0)
