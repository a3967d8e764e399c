"""cohere's second API, sync and async: chat, streams, embeddings, a failure."""

import asyncio
import sys

import cohere
from report import failure, line, report

URL, KEY = sys.argv[1:3]
CALL = {"model": "any", "messages": [{"role": "user", "content": "hi"}]}
EMBED = {"model": "any", "input_type": "search_query", "embedding_types": ["float"]}


def client(key):
    return cohere.ClientV2(api_key=key, base_url=URL, httpx_client=line("httpx"))


def async_client(key):
    return cohere.AsyncClientV2(
        api_key=key, base_url=URL, httpx_client=line("httpx", "AsyncClient")
    )


def text(event):
    return event.delta.message.content.text if event.type == "content-delta" else event.type


with client(KEY) as co:
    print("sync", co.chat(**CALL).message.content[0].text)
    print("sync", [text(event) for event in co.chat_stream(**CALL)])
    print("sync", len(co.embed(texts=["hi"], **EMBED).embeddings.float_[0]))


def fail(key=KEY, **more):
    client(key).chat(**{**CALL, **more}, request_options={"max_retries": 0})


print("sync", failure(lambda: fail("wrong")), failure(lambda: fail(model="error-429")))


async def main():
    async with async_client(KEY) as co:
        print("async", (await co.chat(**CALL)).message.content[0].text)
        print("async", [text(event) async for event in co.chat_stream(**CALL)])
        many = await asyncio.gather(*(co.chat(**CALL) for _ in range(20)))
        print("async", len({answer.message.content[0].text for answer in many}))


async def fail_async():
    async with async_client("wrong") as co:
        await co.chat(**CALL)


asyncio.run(main())
print("async", failure(lambda: asyncio.run(fail_async())))
report()
