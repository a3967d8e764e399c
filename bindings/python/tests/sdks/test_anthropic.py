"""Anthropic's SDK against the mock, by each way to send, sync and async."""

import re

import pytest
import servers

httpx2 = pytest.importorskip("httpx2")
pytest.importorskip("openai", minversion="3")
anthropic = pytest.importorskip("anthropic", minversion="2")

from pydantic import BaseModel  # noqa: E402
from ways import HI, SCHEMA, TEXT, Kit  # noqa: E402

TOOLS = [{"name": name, "input_schema": SCHEMA} for name in ("weather", "time")]


class City(BaseModel):
    name: str
    people: int


def message(**options):
    options = {"model": "any", "messages": HI, "max_tokens": 100, **options}
    return lambda client: client.messages.create(**options)


def test_whole_answers(kit):
    answer = kit.use(anthropic, message())
    assert answer.content[0].text == TEXT and answer.stop_reason == "end_turn"
    answer = kit.use(anthropic, message(max_tokens=2))
    assert answer.content[0].text == "The pool" and answer.stop_reason == "max_tokens"
    count = kit.use(
        anthropic, lambda client: client.messages.count_tokens(model="any", messages=HI)
    )
    assert count.input_tokens == answer.usage.input_tokens
    names = [model.id for model in kit.read(anthropic, lambda client: client.models.list())]
    assert names == ["claude-mock"]


def test_what_is_told_beside_an_answer(kit):
    raw = kit.use(
        anthropic,
        lambda client: client.messages.with_raw_response.create(
            model="any", messages=HI, max_tokens=9
        ),
    )
    assert raw.http_response.http_version == ("HTTP/2" if kit.is_ours else "HTTP/1.1")
    assert raw.request_id == raw.headers["request-id"]
    for name in ("requests", "tokens", "input-tokens", "output-tokens"):
        head = f"anthropic-ratelimit-{name}"
        assert int(raw.headers[f"{head}-remaining"]) < int(raw.headers[f"{head}-limit"])
        assert re.fullmatch(r"\d{4}(-\d\d){2}T\d\d(:\d\d){2}Z", raw.headers[f"{head}-reset"])


def stream(**options):
    options = {"model": "any", "messages": HI, "max_tokens": 2000, **options}
    return lambda client: client.messages.stream(**options)


def test_streams(kit):
    texts = kit.within(anthropic, stream(), lambda opened: opened.text_stream)
    assert "".join(texts) == TEXT and len(texts) == 8
    events = kit.read(anthropic, message(stream=True))
    assert [event.type for event in events] == [
        "message_start", "content_block_start", *["content_block_delta"] * 8,
        "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip


def test_tools_and_thoughts(kit):
    answer = kit.use(anthropic, message(tools=TOOLS))
    assert [(block.name, block.input) for block in answer.content] == [
        ("weather", {"city": "mock"}), ("time", {"city": "mock"}),
    ]  # fmt: skip
    said = [{"role": "assistant", "content": [block.model_dump() for block in answer.content]}]
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}
        for block in answer.content
    ]
    answer = kit.use(
        anthropic,
        message(tools=TOOLS, messages=[*HI, *said, {"role": "user", "content": results}]),
    )
    assert answer.content[0].text == TEXT
    thinking = {"type": "enabled", "budget_tokens": 1024}
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    events = kit.within(
        anthropic,
        stream(tools=TOOLS, tool_choice=choice, thinking=thinking),
        lambda opened: opened,
    )
    final = next(event.message for event in events if event.type == "message_stop")
    assert [block.type for block in final.content] == ["thinking", "tool_use"]
    assert final.content[0].thinking == "The pool keeps one" and final.content[0].signature
    assert final.content[1].input == {"city": "mock"} and final.stop_reason == "tool_use"


def test_structured_output(kit):
    answer = kit.use(
        anthropic,
        lambda client: client.messages.parse(
            model="any", messages=HI, max_tokens=100, output_format=City
        ),
    )
    assert answer.parsed_output == City(name="mock", people=1)


def test_batches(kit):
    requests = [
        {"custom_id": name, "params": {"model": name, "max_tokens": 9, "messages": HI}}
        for name in ("any", "error-529")
    ]
    batch = kit.use(anthropic, lambda client: client.messages.batches.create(requests=requests))
    assert batch.processing_status == "in_progress" and batch.request_counts.processing == 2
    batch = kit.use(anthropic, lambda client: client.messages.batches.retrieve(batch.id))
    assert batch.processing_status == "ended" and batch.request_counts.errored == 1
    results = kit.read(anthropic, lambda client: client.messages.batches.results(batch.id))
    assert [(each.custom_id, each.result.type) for each in results] == [
        ("any", "succeeded"), ("error-529", "errored"),
    ]  # fmt: skip
    assert results[0].result.message.content[0].text == TEXT
    ids = [each.id for each in kit.read(anthropic, lambda c: c.messages.batches.list())]
    assert batch.id in ids
    kit.use(anthropic, lambda client: client.messages.batches.delete(batch.id))
    with pytest.raises(anthropic.NotFoundError):
        kit.use(anthropic, lambda client: client.messages.batches.retrieve(batch.id))


ERRORS = {
    400: ("BadRequestError", "invalid_request_error"),
    401: ("AuthenticationError", "authentication_error"),
    403: ("PermissionDeniedError", "permission_error"),
    404: ("NotFoundError", "not_found_error"),
    409: ("ConflictError", "conflict_error"),
    413: ("RequestTooLargeError", "request_too_large"),
    422: ("UnprocessableEntityError", "invalid_request_error"),
    429: ("RateLimitError", "rate_limit_error"),
    500: ("InternalServerError", "api_error"),
    529: ("OverloadedError", "overloaded_error"),
}


def test_every_status_is_its_class(kit, calls):
    for status, (name, kind) in ERRORS.items():
        for streamed in (False, True):
            with pytest.raises(getattr(anthropic, name)) as caught:
                kit.use(anthropic, message(model=f"error-{status}", stream=streamed))
            assert caught.value.status_code == status and caught.value.request_id
            assert caught.value.body["error"]["type"] == kind
    assert calls.since()["calls"] == 2 * len(ERRORS)


def test_retries_are_the_sdk_s_alone(kit, calls):
    answer = kit.use(anthropic, message(model="flaky-2-529"), max_retries=3)
    assert answer.content[0].text == TEXT and calls.since()["calls"] == 3
    assert kit.read(anthropic, message(model="flaky-1-429", stream=True), max_retries=3)
    assert calls.since()["calls"] == 5
    with pytest.raises(anthropic.InternalServerError):
        kit.use(anthropic, message(model="error-503"), max_retries=2)
    assert calls.since()["calls"] == 8
    with pytest.raises(anthropic.BadRequestError):
        kit.use(anthropic, message(model="error-400"), max_retries=2)
    assert calls.since()["calls"] == 9


def test_timeouts(kit, calls):
    # Only the silence is short: a call whose handshake took too long would not be counted.
    silence = httpx2.Timeout(30, read=0.2)
    with pytest.raises(anthropic.APITimeoutError):
        kit.use(anthropic, message(model="slow-20"), timeout=silence)
    with pytest.raises(anthropic.APITimeoutError):
        kit.use(anthropic, message(model="slow-20", timeout=silence))
    assert servers.wait_until(lambda: calls.since()["calls"] >= 2)
    assert calls.since()["calls"] == 2


def test_streams_that_break(kit):
    with pytest.raises(anthropic.APIStatusError) as caught:
        kit.read(anthropic, message(model="late-529", stream=True))
    assert caught.value.body["error"]["type"] == "overloaded_error"
    # anthropic 2.14 lets what breaks a stream pass as it is.
    with pytest.raises((anthropic.APIConnectionError, httpx2.RemoteProtocolError)):
        kit.read(anthropic, message(model="cut-3", stream=True))


def test_streams_that_are_left_early(paced_kit, tokens):
    """The server is told at once, so that it stops computing."""
    left = tokens.stats()["left"]
    endless = message(model="stall-1", stream=True)
    assert paced_kit.leave(anthropic, endless)
    assert servers.wait_until(lambda: tokens.stats()["left"] >= left + 1)
    if paced_kit.is_async:
        assert paced_kit.cancel(anthropic, endless)
        assert servers.wait_until(lambda: tokens.stats()["left"] >= left + 2)
    assert servers.wait_until(lambda: tokens.stats()["streams"] == 0)


def test_no_server(way, kind):
    kit = Kit(way, f"http://127.0.0.1:{servers.free_port()}", kind=kind)
    with pytest.raises(anthropic.APIConnectionError):
        kit.use(anthropic, message())
