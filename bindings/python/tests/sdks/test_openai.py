"""OpenAI's SDK against the mock, by each way to send, sync and async."""

import base64
import io
import json
import os
import re
import struct
from typing import List

import pytest
import servers

httpx2 = pytest.importorskip("httpx2")
openai = pytest.importorskip("openai", minversion="3")
pytest.importorskip("anthropic", minversion="2")

from pydantic import BaseModel  # noqa: E402
from ways import HI, SCHEMA, TEXT, Kit  # noqa: E402

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": SCHEMA}}
    for name in ("weather", "time")
]


class City(BaseModel):
    name: str
    people: int
    streets: List[str]


def chat(**options):
    options = {"model": "any", "messages": HI, **options}
    return lambda client: client.chat.completions.create(**options)


def test_whole_answers(kit):
    answer = kit.use(openai, chat(n=2))
    assert [choice.message.content for choice in answer.choices] == [TEXT, TEXT]
    assert answer.usage.completion_tokens == 16
    names = [model.id for model in kit.read(openai, lambda client: client.models.list())]
    assert "gpt-mock" in names
    answer = kit.use(openai, chat(max_completion_tokens=2))
    assert answer.choices[0].message.content == "The pool"
    assert answer.choices[0].finish_reason == "length"


def test_what_is_told_beside_an_answer(kit):
    raw = kit.use(
        openai,
        lambda client: client.chat.completions.with_raw_response.create(model="any", messages=HI),
    )
    assert raw.status_code == 200 and raw.parse().choices[0].message.content == TEXT
    assert raw.request_id == raw.headers["x-request-id"]
    assert raw.http_response.http_version == ("HTTP/2" if kit.is_ours else "HTTP/1.1")
    assert ("llmpool" in raw.http_response.extensions) == kit.is_ours
    for name in ("requests", "tokens"):
        left = int(raw.headers[f"x-ratelimit-remaining-{name}"])
        assert 0 < left < int(raw.headers[f"x-ratelimit-limit-{name}"])
        assert re.fullmatch(r"\d+ms|(\d+m)?[\d.]+s", raw.headers[f"x-ratelimit-reset-{name}"])


def test_streams(kit):
    chunks = kit.read(openai, chat(stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == TEXT and chunks[-1].usage.completion_tokens == 8
    lines = kit.within(
        openai,
        lambda client: client.chat.completions.with_streaming_response.create(
            model="any", messages=HI, stream=True
        ),
        lambda response: response.iter_lines(),
    )
    lines = [line for line in lines if line]
    assert len(lines) == 11 and lines[-1] == "data: [DONE]"
    events = kit.within(
        openai,
        lambda client: client.chat.completions.stream(model="any", messages=HI),
        lambda stream: stream,
    )
    deltas = [event.delta for event in events if event.type == "content.delta"]
    assert "".join(deltas) == TEXT and deltas[:3] == ["", "The", " pool"]


def test_tools(kit):
    message = kit.use(openai, chat(tools=TOOLS)).choices[0].message
    calls = message.tool_calls
    assert [call.function.name for call in calls] == ["weather", "time"]
    assert json.loads(calls[0].function.arguments) == {"city": "mock"}
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in calls]
    said = message.model_dump(exclude_none=True)
    answer = kit.use(openai, chat(tools=TOOLS, messages=[*HI, said, *results]))
    assert answer.choices[0].message.content == TEXT
    one = kit.use(openai, chat(tools=TOOLS, parallel_tool_calls=False)).choices[0].message
    assert [call.function.name for call in one.tool_calls] == ["weather"]
    chunks = kit.read(openai, chat(tools=TOOLS, tool_choice="required", stream=True))
    arguments = {0: "", 1: ""}
    for chunk in chunks:
        for call in chunk.choices[0].delta.tool_calls or ():
            arguments[call.index] += call.function.arguments
    assert [json.loads(text) for text in arguments.values()] == [{"city": "mock"}] * 2
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_structured_output(kit):
    expected = City(name="mock", people=1, streets=["mock"])
    answer = kit.use(
        openai,
        lambda client: client.chat.completions.parse(
            model="any", messages=HI, response_format=City
        ),
    )
    assert answer.choices[0].message.parsed == expected
    answer = kit.use(
        openai, lambda client: client.responses.parse(model="any", input="hi", text_format=City)
    )
    assert answer.output_parsed == expected


def test_responses(kit):
    answer = kit.use(openai, lambda client: client.responses.create(model="any", input="hi"))
    assert answer.output_text == TEXT and answer.usage.output_tokens == 8
    stored = kit.use(openai, lambda client: client.responses.retrieve(answer.id))
    assert stored.output_text == TEXT
    kit.use(openai, lambda client: client.responses.delete(answer.id))
    with pytest.raises(openai.NotFoundError):
        kit.use(openai, lambda client: client.responses.retrieve(answer.id))
    short = kit.use(
        openai,
        lambda client: client.responses.create(model="any", input="hi", max_output_tokens=1),
    )
    assert short.status == "incomplete" and short.output_text == "The"


def test_streamed_responses(kit):
    events = kit.read(
        openai, lambda client: client.responses.create(model="any", input="hi", stream=True)
    )
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds == [
        "created", "in_progress", "output_item.added", "content_part.added",
        *["output_text.delta"] * 8,
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(16))
    assert "".join(event.delta for event in events if event.type.endswith("text.delta")) == TEXT
    tool = {"type": "function", "name": "weather", "parameters": SCHEMA}
    events = kit.read(
        openai,
        lambda client: client.responses.create(model="any", input="hi", stream=True, tools=[tool]),
    )
    (call,) = events[-1].response.output
    assert call.name == "weather" and json.loads(call.arguments) == {"city": "mock"}
    deltas = [event.delta for event in events if event.type.endswith("arguments.delta")]
    assert "".join(deltas) == call.arguments


def test_embeddings(kit):
    def embed(**options):
        options = {"model": "any", "input": "a", **options}
        answer = kit.use(openai, lambda client: client.embeddings.create(**options))
        return answer.data[0].embedding

    floats = embed()
    assert len(floats) == 256 and abs(sum(value * value for value in floats) - 1) < 1e-4
    assert embed(encoding_format="float") == pytest.approx(floats, abs=1e-6)
    packed = base64.b64decode(embed(encoding_format="base64"))
    assert struct.unpack("<256f", packed) == pytest.approx(floats)


def test_files_and_batches(kit):
    content = os.urandom(300_000)
    file = kit.use(
        openai,
        lambda client: client.files.create(file=("a.bin", io.BytesIO(content)), purpose="evals"),
    )
    assert file.bytes == len(content) and file.filename == "a.bin"
    ids = [each.id for each in kit.read(openai, lambda client: client.files.list())]
    assert file.id in ids
    assert kit.use(openai, lambda client: client.files.content(file.id)).content == content
    assert kit.use(openai, lambda client: client.files.delete(file.id)).deleted
    with pytest.raises(openai.NotFoundError):
        kit.use(openai, lambda client: client.files.retrieve(file.id))
    lines = [
        {"custom_id": name, "body": {"model": "any", "messages": HI}} for name in ("one", "two")
    ]
    wanted = "\n".join(map(json.dumps, lines)).encode()
    file = kit.use(
        openai, lambda client: client.files.create(file=("b.jsonl", wanted), purpose="batch")
    )
    batch = kit.use(
        openai,
        lambda client: client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        ),
    )
    batch = kit.use(openai, lambda client: client.batches.retrieve(batch.id))
    assert batch.status == "completed" and batch.request_counts.completed == 2
    output = kit.use(openai, lambda client: client.files.content(batch.output_file_id)).text
    answers = [json.loads(line) for line in output.splitlines()]
    assert [answer["custom_id"] for answer in answers] == ["one", "two"]
    assert answers[0]["response"]["body"]["choices"][0]["message"]["content"] == TEXT


ERRORS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    408: "APIStatusError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    500: "InternalServerError",
    503: "InternalServerError",
    529: "InternalServerError",
}


def test_every_status_is_its_class(kit, calls):
    for status, name in ERRORS.items():
        for stream in (False, True):
            with pytest.raises(getattr(openai, name)) as caught:
                kit.use(openai, chat(model=f"error-{status}", stream=stream))
            assert caught.value.status_code == status and caught.value.request_id
            assert caught.value.body["message"] in str(caught.value)
    assert calls.since()["calls"] == 2 * len(ERRORS)


def test_retries_are_the_sdk_s_alone(kit, calls):
    """One call, and as many again as the SDK is told; the pool adds none."""
    answer = kit.use(openai, chat(model="flaky-2-503"), max_retries=3)
    assert answer.choices[0].message.content == TEXT and calls.since()["calls"] == 3
    assert kit.read(openai, chat(model="flaky-1-429", stream=True), max_retries=3)
    assert calls.since()["calls"] == 5
    with pytest.raises(openai.RateLimitError):
        kit.use(openai, chat(model="error-429"), max_retries=2)
    assert calls.since()["calls"] == 8
    with pytest.raises(openai.RateLimitError) as caught:
        kit.use(openai, chat(model="error-429-insufficient_quota"), max_retries=2)
    assert caught.value.code == "insufficient_quota" and calls.since()["calls"] == 9


def test_timeouts(kit, calls):
    # Only the silence is short: a call whose handshake took too long would not be counted.
    silence = httpx2.Timeout(30, read=0.2)
    with pytest.raises(openai.APITimeoutError):
        kit.use(openai, chat(model="slow-20"), timeout=silence)
    with pytest.raises(openai.APITimeoutError):
        kit.read(openai, chat(model="slow-20", stream=True), timeout=silence)
    with pytest.raises(openai.APITimeoutError):
        kit.use(openai, chat(model="slow-20", timeout=silence), max_retries=0)
    assert servers.wait_until(lambda: calls.since()["calls"] >= 3)
    assert calls.since()["calls"] == 3


def test_streams_that_break(kit):
    with pytest.raises(openai.APIError) as caught:
        kit.read(openai, chat(model="late-500", stream=True))
    assert "error while processing" in str(caught.value)
    with pytest.raises(openai.APIConnectionError):
        kit.read(openai, chat(model="cut-3", stream=True))


def test_streams_that_are_left_early(paced_kit, tokens):
    """The server is told at once, so that it stops computing."""
    left = tokens.stats()["left"]
    endless = chat(model="stall-1", stream=True)
    assert paced_kit.leave(openai, endless)
    assert servers.wait_until(lambda: tokens.stats()["left"] >= left + 1)
    if paced_kit.is_async:
        assert paced_kit.cancel(openai, endless)
        assert servers.wait_until(lambda: tokens.stats()["left"] >= left + 2)
    assert servers.wait_until(lambda: tokens.stats()["streams"] == 0)


def test_no_server(way, kind):
    kit = Kit(way, f"http://127.0.0.1:{servers.free_port()}", kind=kind)
    with pytest.raises(openai.APIConnectionError):
        kit.use(openai, chat())
