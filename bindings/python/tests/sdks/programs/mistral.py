"""mistralai, sync and async: chat, streams, embeddings, a failure."""

import asyncio
import sys

from mistralai.client import Mistral
from report import failure, line, report

URL, KEY = sys.argv[1:3]
CALL = {"model": "any", "messages": [{"role": "user", "content": "hi"}]}


def client(key):
    return Mistral(
        api_key=key,
        server_url=URL,
        client=line("httpx2"),
        async_client=line("httpx2", "AsyncClient"),
    )


def content(chunk):
    return chunk.data.choices[0].delta.content


with client(KEY) as mistral:
    print("sync", mistral.chat.complete(**CALL).choices[0].message.content)
    print("sync", [content(chunk) for chunk in mistral.chat.stream(**CALL)])
    print("sync", len(mistral.embeddings.create(model="any", inputs=["hi"]).data[0].embedding))


def fail(key=KEY, **more):
    client(key).chat.complete(**{**CALL, **more})


print("sync", failure(lambda: fail("wrong")), failure(lambda: fail(model="error-429")))


async def main():
    async with client(KEY) as mistral:
        answer = await mistral.chat.complete_async(**CALL)
        print("async", answer.choices[0].message.content)
        stream = await mistral.chat.stream_async(**CALL)
        print("async", [content(chunk) async for chunk in stream])
        many = await asyncio.gather(*(mistral.chat.complete_async(**CALL) for _ in range(20)))
        print("async", len({answer.choices[0].message.content for answer in many}))


async def fail_async():
    async with client("wrong") as mistral:
        await mistral.chat.complete_async(**CALL)


asyncio.run(main())
print("async", failure(lambda: asyncio.run(fail_async())))
report()
