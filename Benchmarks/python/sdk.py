"""sdk.py CLIENT WORK URL COUNT IN_FLIGHT - httpx2, requests or an SDK over one transport at one work; prints JSON.

CLIENT is what lies below it: own, llmpool, aiohttp.

Works:  client         asyncio, IN_FLIGHT tasks, each a POST of an AsyncClient after another, answers decoded
        lines          the same, each a GET whose lines are iterated; figures are per line
        transport      the transport alone: requests made before, answers read to their end; post or get
        transport-get
        make           a client is made and closed, COUNT times
        import         what llmpool.httpx2 adds to llmpool and httpx2, once
        thread         one thread, one POST of a Client after another
        requests       the same with a Session of requests
        openai         asyncio, IN_FLIGHT tasks, each a chat of AsyncOpenAI after another; URL is its base
        openai-stream  the same, streamed; figures are per chunk
        openai-thread  one thread, one chat of OpenAI after another
        anthropic-thread  one thread, one message of Anthropic after another

CPU is that of the whole process, all threads, while it works; a tenth of the work goes before the measurement.
"""

import asyncio
import json
import sys

import httpx2
import client
from client import BODY, KEY

LIMITS = httpx2.Limits(max_connections=200, max_keepalive_connections=200)
HEADERS = {"authorization": f"Bearer {KEY}"}
ANSWER = json.dumps({"object": "chat.completion", "content": "y" * 980}).encode()
TIMEOUT = {"connect": 60, "read": 60, "write": 60, "pool": 60}


class Measure(client.Measure):
    """Without latencies, which no work here takes."""

    def stop(self, count):
        result = super().stop(count)
        return {name: figure for name, figure in result.items() if not name.startswith("p")} | {
            "per_second": result["per_second"]
        }


def transport(name):
    if name == "llmpool":
        import llmpool.httpx2

        return llmpool.httpx2.AsyncTransport(limits=LIMITS)
    if name == "nothing":
        return Nothing()
    if name == "aiohttp":
        from httpx_aiohttp.httpx2 import AiohttpTransport

        return AiohttpTransport(limits=LIMITS)
    return httpx2.AsyncHTTPTransport(limits=LIMITS)


class Nothing(httpx2.AsyncBaseTransport):
    """Costs nothing: what is left is httpx2's own frontend."""

    HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"1024")]

    async def handle_async_request(self, request):
        await asyncio.sleep(0)
        return httpx2.Response(200, headers=self.HEADERS, stream=httpx2.ByteStream(ANSWER))


def classes(name):
    """What makes a client; whoever has no class of its own is put into httpx2's."""
    if name == "llmpool":
        import llmpool.httpx2 as module
    else:
        module = httpx2
    return module.Client, module.AsyncClient


async def repeat(function, count, in_flight):
    """function() so many times, in_flight at a time, behind a tenth of it; the figures for each."""
    each = count // in_flight

    async def some(calls):
        for _ in range(calls):
            await function()

    measure = Measure()
    await asyncio.gather(*(some(each // 10 + 1) for _ in range(in_flight)))
    measure.start()
    await asyncio.gather(*(some(each) for _ in range(in_flight)))
    return measure, each * in_flight


def work_import(name, url, count, in_flight):
    import llmpool

    measure = Measure()
    measure.start()
    import llmpool.httpx2  # noqa: F401

    return measure.stop(1)


def share(items, done, in_flight):
    """Of the items of all calls those that came while repeat() measured."""
    return items * done // (done + in_flight * (done // in_flight // 10 + 1))


def in_one_thread(function, count):
    """function() so many times, behind a tenth of it; it returns what is true."""
    for _ in range(count // 10):
        assert function()
    measure = Measure()
    measure.start()
    for _ in range(count):
        function()
    return measure.stop(count)


async def work_client(name, url, count, in_flight):
    options = {"transport": transport(name)} if name in ("aiohttp", "nothing") else {"limits": LIMITS}
    async with classes(name)[1](headers=HEADERS, timeout=60, **options) as used:

        async def post():
            assert (await used.post(url, json=BODY)).json()["object"]

        measure, done = await repeat(post, count, in_flight)
        return measure.stop(done)


async def work_lines(name, url, count, in_flight):
    options = {"transport": transport(name)} if name == "aiohttp" else {"limits": LIMITS}
    lines = 0
    async with classes(name)[1](headers=HEADERS, timeout=60, **options) as used:

        async def read():
            nonlocal lines
            async with used.stream("GET", url) as response:
                async for _ in response.aiter_lines():
                    lines += 1

        measure, done = await repeat(read, count, in_flight)
        return measure.stop(share(lines, done, in_flight))


async def work_transport(name, url, count, in_flight, method="POST"):
    async with transport(name) as below:
        content = json.dumps(BODY).encode() if method == "POST" else None
        request = httpx2.Request(
            method, url, headers=HEADERS, content=content, extensions={"timeout": TIMEOUT}
        )

        async def send():
            response = await below.handle_async_request(request)
            assert response.status_code == 200
            async for _ in response.stream:
                pass
            await response.stream.aclose()

        measure, done = await repeat(send, count, in_flight)
        return measure.stop(done)


async def work_transport_get(name, url, count, in_flight):
    return await work_transport(name, url, count, in_flight, "GET")


def work_make(name, url, count, in_flight):
    made = classes(name)[0]
    made().close()  # with what is imported then
    measure = Measure()
    measure.start()
    for _ in range(count):
        made().close()
    result = measure.stop(count)
    return {**result, "wall_us": 1e6 / result["per_second"]}


def work_thread(name, url, count, in_flight):
    with classes(name)[0](headers=HEADERS, timeout=60) as used:
        return in_one_thread(lambda: used.post(url, json=BODY).json()["object"], count)


def work_requests(name, url, count, in_flight):
    import requests

    with requests.Session() as used:
        used.headers.update(HEADERS)
        if name == "llmpool":
            import llmpool.requests

            used.mount("http://", llmpool.requests.Adapter())
        return in_one_thread(lambda: used.post(url, json=BODY, timeout=60).json()["object"], count)


def http_client(name, is_async=True):
    """What an SDK is given: nothing where it is to make its own."""
    if name == "own":
        return {}
    if name == "aiohttp":
        import openai

        return {"http_client": openai.DefaultAioHttpClient()}
    client_class, async_client_class = classes(name)
    return {"http_client": async_client_class() if is_async else client_class()}


async def work_openai(name, url, count, in_flight):
    import openai

    async with openai.AsyncOpenAI(base_url=url, api_key=KEY, **http_client(name)) as used:

        async def chat():
            assert (await used.chat.completions.create(**BODY)).choices[0].message.content

        measure, done = await repeat(chat, count, in_flight)
        return measure.stop(done)


async def work_openai_stream(name, url, count, in_flight):
    import openai

    chunks = 0
    body = {**BODY, "stream": True}
    async with openai.AsyncOpenAI(base_url=url, api_key=KEY, **http_client(name)) as used:

        async def chat():
            nonlocal chunks
            async for chunk in await used.chat.completions.create(**body):
                chunks += len(chunk.choices)

        measure, done = await repeat(chat, count, in_flight)
        return measure.stop(share(chunks, done, in_flight))


def work_openai_thread(name, url, count, in_flight):
    import openai

    with openai.OpenAI(base_url=url, api_key=KEY, **http_client(name, False)) as used:
        return in_one_thread(lambda: used.chat.completions.create(**BODY).choices[0].message.content, count)


def work_anthropic_thread(name, url, count, in_flight):
    import anthropic

    body = {"model": BODY["model"], "messages": BODY["messages"], "max_tokens": 1}
    with anthropic.Anthropic(base_url=url, api_key=KEY, **http_client(name, False)) as used:
        return in_one_thread(lambda: used.messages.create(**body).content[0].text, count)


def main():
    name, work, url, count, in_flight = sys.argv[1:]
    function = globals()[f"work_{work.replace('-', '_')}"]
    arguments = (name, url, int(count), int(in_flight))
    if asyncio.iscoroutinefunction(function):
        import uvloop

        result = uvloop.run(function(*arguments))
    else:
        result = function(*arguments)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
