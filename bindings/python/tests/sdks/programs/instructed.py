"""instructor, around a client of OpenAI's SDK; of its own, as it wants an older one."""

import asyncio
import sys

import instructor
from openai import AsyncOpenAI
from report import failure, report

url, key = sys.argv[1:]


async def instructed(key):
    client = instructor.from_openai(AsyncOpenAI(base_url=url + "/v1", api_key=key, max_retries=0))
    return await client.chat.completions.create(
        model="any", messages=[{"role": "user", "content": "hi"}], response_model=None
    )


print("instructor", asyncio.run(instructed(key)).choices[0].message.content)
print("instructor", failure(lambda: asyncio.run(instructed("wrong"))))
report()
