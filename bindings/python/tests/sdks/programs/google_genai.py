"""google-genai, sync and async: content, streams, embeddings, a failure."""

import asyncio
import sys

from google import genai
from google.genai import types
from report import failure, line, report

URL, KEY = sys.argv[1:3]
MODEL, HI = "gemini-any", "hi"


def client(key):
    options = types.HttpOptions(
        base_url=URL,
        httpx_client=line("httpx2"),
        httpx_async_client=line("httpx2", "AsyncClient"),
    )
    return genai.Client(api_key=key, http_options=options)


def texts(stream):
    return [part.text for part in stream]


with client(KEY) as ai:
    print("sync", ai.models.generate_content(model=MODEL, contents=HI).text)
    print("sync", texts(ai.models.generate_content_stream(model=MODEL, contents=HI)))
    embedded = ai.models.embed_content(model=MODEL, contents=HI)
    print("sync", len(embedded.embeddings[0].values))


def fail(key=KEY, model=MODEL):
    with client(key) as ai:
        ai.models.generate_content(model=model, contents=HI)


print("sync", failure(lambda: fail("wrong")), failure(lambda: fail(model="error-429")))


async def main():
    async with client(KEY).aio as ai:
        print("async", (await ai.models.generate_content(model=MODEL, contents=HI)).text)
        stream = await ai.models.generate_content_stream(model=MODEL, contents=HI)
        print("async", [part.text async for part in stream])
        many = (ai.models.generate_content(model=MODEL, contents=HI) for _ in range(20))
        print("async", len({answer.text for answer in await asyncio.gather(*many)}))


async def fail_async(model):
    async with client(KEY).aio as ai:
        await ai.models.generate_content(model=model, contents=HI)


asyncio.run(main())
print("async", failure(lambda: asyncio.run(fail_async("error-503"))))
report()
