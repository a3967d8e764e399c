"""The mock answers as the real servers do: the real SDKs accept it, by their own transport."""

import json
import os
import subprocess
import sys
import time

import pytest
import servers

import llmpool
from llmpool.mock import MockServer
from llmpool.mock._anthropic import Anthropic
from llmpool.mock._failures import NOTHING, ErrorAnswer, Failures, length_of
from llmpool.mock._openai import OpenAI
from llmpool.mock._settings import Settings

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def client(mock, open_client):
    return open_client(mock.url, headers=mock.headers, ca_file=mock.ca_file)


@pytest.fixture(scope="module")
def openai_client(mock_plain):
    openai = pytest.importorskip("openai")
    return openai.OpenAI(base_url=mock_plain.url + "/v1", api_key=mock_plain.api_key, max_retries=0)


@pytest.fixture(scope="module")
def anthropic_client(mock_plain):
    anthropic = pytest.importorskip("anthropic")
    return anthropic.Anthropic(base_url=mock_plain.url, api_key=mock_plain.api_key, max_retries=0)


def test_openai_sdk(openai_client):
    answer = openai_client.chat.completions.create(model="gpt-mock", messages=HI, max_tokens=5)
    assert answer.choices[0].message.content == "The pool keeps one connection"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 5
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 5


def test_openai_sdk_stream(openai_client):
    stream = openai_client.chat.completions.create(
        model="gpt-mock", messages=HI, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text.startswith("The pool keeps one connection") and len(text.split()) == 16
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 16
    assert all(c.usage is None for c in chunks[:-1])


def test_openai_sdk_embeddings_and_models(openai_client):
    answer = openai_client.embeddings.create(model="text-embedding-mock", input=["a", "b", "a"])
    vectors = [item.embedding for item in answer.data]
    assert len(vectors) == 3 and len(vectors[0]) == 256
    assert vectors[0] == vectors[2] != vectors[1]
    small = openai_client.embeddings.create(model="text-embedding-mock", input="a", dimensions=8)
    assert len(small.data[0].embedding) == 8
    assert "gpt-mock" in [model.id for model in openai_client.models.list()]
    assert openai_client.models.retrieve("gpt-mock").owned_by == "llmpool"


def test_openai_sdk_errors(mock_plain, openai_client):
    import openai

    with pytest.raises(openai.AuthenticationError) as caught:
        openai_client.with_options(api_key="wrong").models.list()
    assert caught.value.code == "invalid_api_key"
    with pytest.raises(openai.BadRequestError):
        openai_client.chat.completions.create(model="gpt-mock", messages=[])


def test_anthropic_sdk(anthropic_client):
    answer = anthropic_client.messages.create(model="claude-mock", messages=HI, max_tokens=100)
    assert answer.content[0].text.startswith("The pool keeps")
    assert answer.stop_reason == "end_turn" and answer.usage.output_tokens == 16
    assert "claude-mock" in [model.id for model in anthropic_client.models.list()]


def test_anthropic_sdk_stream(anthropic_client):
    with anthropic_client.messages.stream(model="claude-mock", messages=HI, max_tokens=4) as stream:
        assert "".join(stream.text_stream) == "The pool keeps one"
        final = stream.get_final_message()
    assert final.stop_reason == "max_tokens" and final.usage.output_tokens == 4


def test_anthropic_sdk_errors(anthropic_client):
    import anthropic

    with pytest.raises(anthropic.AuthenticationError):
        anthropic_client.with_options(api_key="wrong").messages.create(
            model="claude-mock", messages=HI, max_tokens=5
        )


def test_any_model_is_served(openai_client, anthropic_client):
    answer = openai_client.chat.completions.create(model="gpt-4o-mini", messages=HI)
    assert answer.model == "gpt-4o-mini" and answer.choices[0].message.content
    answer = openai_client.embeddings.create(model="text-embedding-3-small", input="a")
    assert answer.model == "text-embedding-3-small" and answer.data
    assert openai_client.models.retrieve("gpt-4o-mini").id == "gpt-4o-mini"
    answer = anthropic_client.messages.create(model="claude-opus", messages=HI, max_tokens=5)
    assert answer.model == "claude-opus" and answer.content
    assert anthropic_client.models.retrieve("claude-opus").id == "claude-opus"


def test_models_that_are_not_there():
    import anthropic
    import openai

    with MockServer(tls=False, models="gpt-a, claude-a") as server:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key=server.api_key, max_retries=0)
        assert client.chat.completions.create(model="gpt-a", messages=HI).model == "gpt-a"
        assert [model.id for model in client.models.list()] == ["gpt-a", "claude-a"]
        for call in (
            lambda: client.chat.completions.create(model="gpt-b", messages=HI),
            lambda: client.embeddings.create(model="gpt-b", input="a"),
            lambda: client.models.retrieve("gpt-b"),
        ):
            with pytest.raises(openai.NotFoundError) as caught:
                call()
            assert caught.value.code == "model_not_found"
        other = anthropic.Anthropic(base_url=server.url, api_key=server.api_key, max_retries=0)
        with pytest.raises(anthropic.NotFoundError):
            other.messages.create(model="claude-b", messages=HI, max_tokens=5)


def test_anthropic_event_types(client):
    body = {"model": "claude-mock", "messages": HI, "max_tokens": 2, "stream": True}
    text = client.post("/v1/messages", json=body).raise_for_status().text
    kinds = [line[7:] for line in text.splitlines() if line.startswith("event: ")]
    assert kinds == [
        "message_start", "content_block_start", "ping", "content_block_delta",
        "content_block_delta", "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    for block in text.strip().split("\n\n"):
        event, data = block.split("\n")
        assert json.loads(data[6:])["type"] == event[7:]


def test_refusals(client):
    assert client.post("/v1/chat/completions", content="{").status_code == 400
    assert client.post("/v1/chat/completions", json={"messages": HI}).status_code == 400
    assert client.get("/v1/chat/completions").status_code == 405
    assert client.get("/v1/none").status_code == 404
    none = client.get("/v1/models", headers={"authorization": "", "x-api-key": ""})
    assert none.status_code == 401 and "API key" in none.json()["error"]["message"]
    wrong = client.post("/v1/messages", json={}, headers={"x-api-key": "wrong"})
    assert wrong.status_code == 401 and wrong.json()["error"]["type"] == "authentication_error"


def statuses(settings, provider, calls=60):
    failures = Failures(settings)
    found = []
    for _ in range(calls):
        try:
            failures.by_chance(provider.chance_statuses)
            found.append(200)
        except ErrorAnswer as error:
            found.append(error.status)
    return found


def test_errors_are_those_of_the_seed():
    first = statuses(Settings(error_rate=0.5, seed=7), Anthropic)
    assert first == statuses(Settings(error_rate=0.5, seed=7), Anthropic)
    assert first != statuses(Settings(error_rate=0.5, seed=8), Anthropic)
    assert set(first) == {200, 429, 500, 529} and 15 < first.count(200) < 45
    assert set(statuses(Settings(error_rate=0.5), OpenAI)) == {200, 429, 500}
    assert set(statuses(Settings(), Anthropic)) == {200}


def test_errors_over_the_wire(open_client):
    with MockServer(tls=False, error_rate=1, retry_after=0.25) as server:
        client = open_client(server.url, headers=server.headers)
        seen = {}
        for _ in range(20):
            answer = client.post("/v1/messages", json={})
            seen[answer.status_code] = answer
        assert set(seen) == {429, 500, 529}
        assert seen[529].json()["error"]["type"] == "overloaded_error"
        assert seen[429].headers["retry-after-ms"] == "250"
        assert seen[429].headers["retry-after"] == "0"


def test_pace(open_client):
    with MockServer(tls=False, ttft=0.2, tokens_per_second=50, tokens=10) as server:
        client = open_client(server.url, headers=server.headers)
        began = time.monotonic()
        body = {"model": "gpt-mock", "messages": HI}
        client.post("/v1/chat/completions", json=body).raise_for_status()
        assert 0.39 < time.monotonic() - began < 5
        answer = client.post("/v1/chat/completions", json={**body, "stream": True})
        assert answer.timings.done - answer.timings.sent > 0.3


def test_names_that_ask_for_several_things():
    failures = Failures(Settings(seed=3))
    plan = failures.by_name("gpt-4o-long-400+lasts-20+slow-1.5")
    assert (plan.lasts, plan.delay) == (20.0, 1.5)
    assert length_of("gpt-4o-long-400+lasts-20") == length_of("lasts-20+long-400") == 400
    assert length_of("gpt-4o") is None and failures.by_name("command-r+") is NOTHING
    with pytest.raises(ErrorAnswer):
        failures.by_name("long-400+error-503")


def test_a_tail_is_that_of_the_seed():
    def delays(seed):
        failures = Failures(Settings(seed=seed))
        return [failures.by_name("tail-20-1.5").delay for _ in range(500)]

    found = delays(7)
    assert set(found) == {0.0, 1.5} and 60 < found.count(1.5) < 140
    assert found == delays(7) != delays(8)


def test_length_and_duration_of_an_answer(client):
    body = {"model": "gpt-mock-long-40+lasts-0.3", "messages": HI}
    began = time.monotonic()
    whole = client.post("/v1/chat/completions", json=body)
    assert time.monotonic() - began > 0.29 and whole.json()["usage"]["completion_tokens"] == 40
    answer = client.post("/v1/chat/completions", json={**body, "stream": True})
    assert answer.timings.done - answer.timings.sent > 0.29
    assert len(answer.text.split('"content":"')) == 1 + 1 + 40  # the first names the role
    short = client.post("/v1/chat/completions", json={**body, "max_tokens": 4})
    assert short.json()["usage"]["completion_tokens"] == 4
    for path, body in (
        ("/v1/messages", {"model": "long-40", "messages": HI, "max_tokens": 100}),
        ("/v1/responses", {"model": "long-40", "input": "hi"}),
    ):
        assert client.post(path, json=body).json()["usage"]["output_tokens"] == 40
    gemini = {"contents": [{"parts": [{"text": "hi"}]}]}
    path = "/v1beta/models/long-40:generateContent?key=mock-key"
    assert client.post(path, json=gemini).json()["usageMetadata"]["candidatesTokenCount"] == 40


def test_any_key(open_client):
    with MockServer(tls=False, api_key="") as server:
        assert open_client(server.url).get("/v1/models").status_code == 200


def test_it_ends_by_itself_and_on_request():
    done = subprocess.run(
        [sys.executable, "-m", "llmpool.mock", "--no-tls", "--max-seconds", "0.3"],
        capture_output=True, text=True, timeout=30, env=MockServer()._environment(),
    )  # fmt: skip
    assert done.returncode == 0 and json.loads(done.stdout)["url"].startswith("http://")
    server = MockServer(tls=False).start()
    process = server._process
    server.stop()
    server.stop()
    assert process.returncode == 0


def test_it_ends_with_the_process_that_started_it(run_python):
    """Also where that had no time to stop it, and never before."""
    done = run_python(
        "import os; from llmpool.mock import MockServer\n"
        "print(MockServer(tls=False).start().url, flush=True); os.kill(os.getpid(), 9)"
    )
    port = int(done.stdout.rsplit(":", 1)[1])
    assert servers.wait_until(lambda: not servers.listening(port), 10)


def test_without_granian_it_says_what_to_install():
    """The distribution that this package came in: another one is called llmpool."""
    from importlib import metadata

    script = (
        "import sys; sys.modules['granian'] = None\n"
        "from llmpool.mock._command import main; sys.exit(main([]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30,
        env=MockServer()._environment(),
    )  # fmt: skip
    assert done.returncode == 1 and 'pip install "libllmpool[mock]"' in done.stderr
    try:
        named = metadata.metadata("libllmpool")
    except metadata.PackageNotFoundError:
        return  # the tree's own package, not installed
    assert "mock" in (named.get_all("provides-extra") or [])


def test_a_start_that_fails_says_why():
    with MockServer(tls=False) as first:
        port = first.url.rsplit(":", 1)[1]
        with pytest.raises(RuntimeError, match="argument --tokens"):
            MockServer(tls=False, tokens="many").start()
        assert port


def test_http_versions(open_client):
    with MockServer(http="1") as server:
        pool = {"ca_file": server.ca_file}
        answer = open_client(server.url, headers=server.headers, **pool).get("/v1/models")
        assert answer.http_version == "HTTP/1.1"
    with MockServer(http="2", tls=False) as server:
        client = open_client(server.url, headers=server.headers, http1=False)
        assert client.get("/v1/models").http_version == "HTTP/2"
    assert llmpool.__version__


def test_a_port_that_is_taken_is_not_shared(mock_plain):
    """The server would take it all the same, and the kernel give it half of the connections."""
    port = mock_plain.url.rpartition(":")[2]
    command = [sys.executable, "-m", "llmpool.mock", "--no-tls", "--port", port]
    done = subprocess.run(
        [*command, "--max-seconds", "5"],
        env={**os.environ, "PYTHONPATH": servers.python_path()},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and not done.stdout
    assert done.stderr == (
        f"llmpool.mock: cannot listen on port {port} of 127.0.0.1: Address already in use\n"
    )
