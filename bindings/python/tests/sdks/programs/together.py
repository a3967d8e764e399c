"""Everything at once on one pool: URL KEY LIBRARY ROUNDS, where LIBRARY is one in C, or "".

In each round 200 streams of AsyncOpenAI, 20 threads with OpenAI, the C library, four chains where
LangChain is there, and streams that are cancelled or left at random. Every token comes once, and
nothing is left in use.
"""

import asyncio
import ctypes
import importlib.util
import os
import random
import sys
import threading

import llmpool

# What the clients trust by default, and the C library asks for: one pool for all.
llmpool.configure(ca_file=os.environ["SSL_CERT_FILE"])
llmpool.install()

from openai import AsyncOpenAI, OpenAI  # noqa: E402

URL, KEY, LIBRARY, ROUNDS = sys.argv[1:]
STREAMS, THREADS, CHAINS, IN_C = 200, 20, 4, 32
LEFT = 60  # of the streams of a round, more
CALL = {"model": "any", "messages": [{"role": "user", "content": "hi"}]}
OPTIONS = {"base_url": URL + "/v1", "api_key": KEY, "max_retries": 0}
HAS_CHAINS = importlib.util.find_spec("langchain_openai") is not None

expected = OpenAI(**OPTIONS).chat.completions.create(**CALL).choices[0].message.content
done, errors = {"streams": 0, "threads": 0, "c": 0, "chains": 0, "left": 0}, []


async def streamed(client):
    deltas = []
    async for chunk in await client.chat.completions.create(stream=True, **CALL):
        if chunk.choices and chunk.choices[0].delta.content:
            deltas.append(chunk.choices[0].delta.content)
    assert "".join(deltas) == expected and len(deltas) == len(expected.split(" "))
    done["streams"] += 1


async def left(client, chance):
    """One that is left after some of its tokens: by who reads it, or with its task."""
    task = asyncio.current_task()
    count, cancels = chance.randrange(20), chance.random() < 0.5
    if chance.random() < 0.2:  # in the middle of anything
        asyncio.get_running_loop().call_later(chance.random() / 5, task.cancel)
    stream = await client.chat.completions.create(stream=True, **CALL)
    async for _ in stream:
        count -= 1
        if count < 0 and cancels:
            task.cancel()
        elif count < 0:
            await stream.close()
            return


def threaded():
    with OpenAI(**OPTIONS) as client:
        whole = client.chat.completions.create(**CALL)
        assert whole.choices[0].message.content == expected
        with client.chat.completions.create(stream=True, **CALL) as stream:
            deltas = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        assert "".join(deltas) == expected
    done["threads"] += 1


def in_c():
    report = ctypes.create_string_buffer(1000)
    address, ca_file = (URL + "/v1/chat/completions").encode(), os.environ["SSL_CERT_FILE"].encode()
    run = ctypes.CDLL(LIBRARY).demo_run
    failed = run(address, ca_file, KEY.encode(), 100, IN_C, report, len(report))
    assert failed == 0, report.value.decode()
    done["c"] += 1


def chain():
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_openai import ChatOpenAI

    prompt = ChatPromptTemplate.from_template("say {what}")
    model = ChatOpenAI(model="any", base_url=OPTIONS["base_url"], api_key=KEY, max_retries=0)
    whole = prompt | model | StrOutputParser()
    assert whole.batch([{"what": "hi"}] * 4) == [expected] * 4
    assert "".join(whole.stream({"what": "hi"})) == expected
    done["chains"] += 1


def guarded(function):
    try:
        function()
    except BaseException as error:
        errors.append(repr(error))


async def round_of(number):
    chance = random.Random(number)
    jobs = [threaded] * THREADS + [in_c] * bool(LIBRARY) + [chain] * (CHAINS * HAS_CHAINS)
    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    async with AsyncOpenAI(**OPTIONS) as client:
        for thread in threads:
            thread.start()
        await asyncio.gather(*(streamed(client) for _ in range(STREAMS)))
        tasks = [asyncio.ensure_future(left(client, chance)) for _ in range(LEFT)]
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert ended is None or isinstance(ended, asyncio.CancelledError), repr(ended)
            done["left"] += 1
        await asyncio.to_thread(lambda: [thread.join() for thread in threads])


for number in range(int(ROUNDS)):
    asyncio.run(round_of(number))
assert not errors, errors
counts = {
    "streams": STREAMS, "threads": THREADS, "c": bool(LIBRARY), "chains": CHAINS * HAS_CHAINS,
    "left": LEFT,
}  # fmt: skip
assert done == {name: count * int(ROUNDS) for name, count in counts.items()}, done
now = llmpool.stats()
assert now.pending == now.active == now.backing_off == now.failed == 0, now
assert now.submitted == now.succeeded + now.cancelled and now.cancelled > 0, now
print("chains" if HAS_CHAINS else "no chains")
