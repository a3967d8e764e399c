"""SDKs that are made of httpx: LiteLLM, LlamaIndex, DSPy."""

import asyncio
import sys

import dspy
import litellm
from llama_index.llms.openai import OpenAI
from report import failure, report

url, key = sys.argv[1:]
litellm.suppress_debug_info = True
CALL = {
    "model": "openai/any",
    "api_base": url + "/v1",
    "messages": [{"role": "user", "content": "hi"}],
}


async def streamed():
    answer = await litellm.acompletion(api_key=key, stream=True, **CALL)
    return [chunk.choices[0].delta.content async for chunk in answer]


print("litellm", litellm.completion(api_key=key, **CALL).choices[0].message.content)
whole = litellm.completion(api_key=key, stream=True, **CALL)
print("litellm", [chunk.choices[0].delta.content for chunk in whole])
print("litellm", asyncio.run(streamed()))
print("litellm", failure(lambda: litellm.completion(api_key="wrong", **CALL)))


def index(key):
    return OpenAI(model="gpt-4o", api_base=url + "/v1", api_key=key, max_retries=0)


print("llama-index", index(key).complete("hi"))
print("llama-index", [part.delta for part in index(key).stream_complete("hi")])
print("llama-index", asyncio.run(index(key).acomplete("hi")))
print("llama-index", failure(lambda: index("wrong").complete("hi")))


def model(key):
    # Its own engine, the default, makes no use of httpx.
    options = {"api_base": url + "/v1", "cache": False, "num_retries": 0, "engine": "litellm"}
    return dspy.LM("openai/any", api_key=key, **options)


print("dspy", model(key)("hi"))
print("dspy", failure(lambda: model("wrong")("hi")))
report()
