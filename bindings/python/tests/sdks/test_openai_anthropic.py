"""The SDKs of OpenAI and Anthropic, each by its own transport and by ours: the same comes out."""

import asyncio
import json
import threading

import pytest
import servers

import llmpool

httpx2 = pytest.importorskip("httpx2")
openai = pytest.importorskip("openai", minversion="3")
anthropic = pytest.importorskip("anthropic", minversion="2")

from ways import HI, Kit  # noqa: E402


@pytest.fixture
def kit(way, tokens):
    return Kit(way, tokens.url, tokens.ca_file)


def test_whole_answers(kit):
    with kit.openai() as client:
        answer = client.chat.completions.create(model="any", messages=HI, max_tokens=5)
        assert answer.choices[0].message.content == "The pool keeps one connection"
        vectors = client.embeddings.create(model="text-embedding-mock", input=["a", "b"]).data
        assert len(vectors) == 2 and len(vectors[0].embedding) == 256
        assert "gpt-mock" in [model.id for model in client.models.list()]
        raw = client.chat.completions.with_raw_response.create(model="any", messages=HI)
        assert raw.status_code == 200 and raw.request_id and raw.parse().usage.total_tokens
        assert ("llmpool" in raw.http_response.extensions) == kit.is_ours
        assert raw.http_response.http_version == ("HTTP/2" if kit.is_ours else "HTTP/1.1")
    with kit.anthropic() as client:
        answer = client.messages.create(model="any", max_tokens=3, messages=HI)
        assert answer.content[0].text == "The pool keeps" and answer.stop_reason == "max_tokens"


def test_streams(kit, tokens):
    with kit.openai() as client:
        stream = client.chat.completions.create(model="any", messages=HI, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert len(text.split(" ")) == 50
        with client.chat.completions.with_streaming_response.create(
            model="any", messages=HI, stream=True
        ) as response:
            lines = [line for line in response.iter_lines() if line]
        assert lines[-1] == "data: [DONE]" and len(lines) == 53
        # One that is left early is given up at once.
        left = tokens.stats()["left"]
        stream = client.chat.completions.create(model="any", messages=HI, stream=True)
        next(iter(stream))
        stream.close()
        assert servers.wait_until(lambda: tokens.stats()["left"] == left + 1)
    with (
        kit.anthropic() as client,
        client.messages.stream(model="any", max_tokens=20, messages=HI) as stream,
    ):
        assert len(list(stream.text_stream)) == 20
        assert stream.get_final_message().stop_reason == "max_tokens"


def test_async(kit, tokens):
    async def read(client):
        stream = await client.chat.completions.create(model="any", messages=HI, stream=True)
        return [chunk.choices[0].delta.content async for chunk in stream]

    async def main():
        async with kit.async_openai() as client:
            answer = await client.chat.completions.create(model="any", messages=HI, max_tokens=1)
            assert answer.choices[0].message.content == "The"
            whole = await asyncio.gather(*(read(client) for _ in range(20)))
            assert all(texts == whole[0] for texts in whole) and len(whole[0]) == 52
            left = tokens.stats()["left"]
            task = asyncio.ensure_future(read(client))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            stats = asyncio.get_running_loop().run_in_executor
            for _ in range(200):
                if (await stats(None, tokens.stats))["left"] == left + 1:
                    break
                await asyncio.sleep(0.01)
            else:
                raise AssertionError("the server was not told")

    asyncio.run(main())


def test_many_streams_and_threads_share_connections(tokens):
    """200 streams of a loop, 20 threads and a client of the package: as few as the streams need."""
    llmpool.install()
    try:
        kit = Kit("install", tokens.url, tokens.ca_file)
        counts, done = [], []

        def call():
            with kit.openai() as client:
                for _ in range(5):
                    answer = client.chat.completions.create(model="any", messages=HI, max_tokens=1)
                    done.append(answer.choices[0].message.content)

        async def main():
            async def read():
                stream = await client.chat.completions.create(model="any", messages=HI, stream=True)
                counts.append([chunk async for chunk in stream])

            async with kit.async_openai() as client:
                threads = [threading.Thread(target=call) for _ in range(20)]
                for thread in threads:
                    thread.start()
                await asyncio.gather(*(read() for _ in range(200)))
                await asyncio.to_thread(lambda: [thread.join() for thread in threads])

        port = int(tokens.url.rsplit(":", 1)[1])
        before = servers.sockets_to(port, ("01",))
        asyncio.run(main())
        assert len(counts) == 200 and all(len(chunks) == 52 for chunks in counts)
        assert done == ["The"] * 100
        assert servers.sockets_to(port, ("01",)) - before <= 3
        assert servers.wait_until(lambda: tokens.stats()["streams"] == 0)
    finally:
        llmpool.uninstall()


class Answers:
    """A server whose answers have these statuses, in turn; the last for ever."""

    def __init__(self, *statuses, headers=b"", silent=False):
        self.statuses, self.headers, self.silent = list(statuses), headers, silent
        self.requests = 0
        self._lock = threading.Lock()

    def __call__(self, connection, _):
        buffer = b""
        while True:
            _, _, buffer = servers.read_request(connection, buffer)
            with self._lock:
                self.requests += 1
                status = self.statuses[0] if len(self.statuses) == 1 else self.statuses.pop(0)
            if self.silent:
                connection.recv(1)
                return
            error = {"error": {"message": "no", "type": "t", "code": None, "param": None}}
            headers = b"content-type: application/json\r\n" + self.headers
            servers.answer(connection, json.dumps(error).encode(), headers, b"%d No" % status)


ERRORS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    500: "InternalServerError",
    503: "InternalServerError",
}


@pytest.mark.parametrize("status", ERRORS)
def test_errors_are_the_sdk_s(way, status):
    answers = Answers(status)
    with servers.RawServer(answers) as raw:
        kit = Kit(way, raw.url)
        for sdk, call in (
            (openai, lambda: kit.openai().models.list()),
            (anthropic, lambda: kit.anthropic().models.list()),
        ):
            with pytest.raises(getattr(sdk, ERRORS[status])) as caught:
                call()
            assert caught.value.status_code == status and "no" in str(caught.value)
    assert answers.requests == 2


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_retries_are_the_sdk_s_alone(way, status):
    """One, and as many again as the SDK says; the pool adds none."""
    answers = Answers(status, headers=b"retry-after-ms: 1\r\n")
    with servers.RawServer(answers) as raw:
        client = Kit(way, raw.url).openai(max_retries=3)
        with pytest.raises(openai.APIStatusError):
            client.models.list()
    assert answers.requests == 4
    answers = Answers(status, 200, headers=b"retry-after-ms: 1\r\n")
    with servers.RawServer(answers) as raw:
        client = Kit(way, raw.url).openai(max_retries=3)
        client.models.with_raw_response.list()
    assert answers.requests == 2


def test_timeouts_and_lost_connections(way):
    answers = Answers(200, silent=True)
    with servers.RawServer(answers) as raw:
        kit = Kit(way, raw.url)
        with pytest.raises(openai.APITimeoutError):
            kit.openai(timeout=0.1).models.list()
        with pytest.raises(anthropic.APITimeoutError):
            kit.anthropic(timeout=0.1).models.list()
        assert answers.requests == 2

    def lose(connection, _):
        servers.read_request(connection)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\n"
            b'data: {"id":"1","choices":[]}\n\n'
        )

    with servers.RawServer(lose) as raw:
        kit = Kit(way, raw.url)
        stream = kit.openai().chat.completions.create(model="m", messages=HI, stream=True)
        chunks = iter(stream)
        assert next(chunks).id == "1"
        # openai 3.57 lets what breaks a stream pass, or gives it a class of its own.
        with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError)):
            next(chunks)
    with pytest.raises(openai.APIConnectionError):
        Kit(way, f"http://127.0.0.1:{servers.free_port()}").openai().models.list()
