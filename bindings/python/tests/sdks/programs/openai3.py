"""SDKs that are made of httpx2: LangChain's for OpenAI and Anthropic, pydantic-ai."""

import asyncio
import sys

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from report import failure, report

url, key = sys.argv[1:]


def langchain_openai(key):
    return ChatOpenAI(model="any", base_url=url + "/v1", api_key=key, max_retries=0)


def langchain_anthropic(key):
    return ChatAnthropic(model="any", base_url=url, api_key=key, max_retries=0)


for make in (langchain_openai, langchain_anthropic):
    print(make.__name__, make(key).invoke("hi").content)
    print(make.__name__, "".join(str(part.content) for part in make(key).stream("hi")))
    print(make.__name__, asyncio.run(make(key).ainvoke("hi")).content)
    print(make.__name__, failure(lambda make=make: make("wrong").invoke("hi")))


def agent(key):
    provider = OpenAIProvider(base_url=url + "/v1", api_key=key)
    return Agent(OpenAIChatModel("any", provider=provider))


async def streamed():
    async with agent(key).run_stream("hi") as answer:
        return [text async for text in answer.stream_text(delta=True, debounce_by=None)]


print("pydantic-ai", agent(key).run_sync("hi").output)
print("pydantic-ai", asyncio.run(streamed()))
print("pydantic-ai", failure(lambda: agent("wrong").run_sync("hi")))
report()
