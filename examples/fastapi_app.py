"""A FastAPI application that streams tokens from an LLM API, on one pool for the whole process.

    pip install libllmpool fastapi uvicorn
    OPENAI_API_KEY=... uvicorn fastapi_app:app
    OPENAI_API_KEY=... LLM_MEMBERS=4 uvicorn --workers 4 fastapi_app:app

    curl -N localhost:8000/ask?question=hi

The tokens go on as they come. When the browser leaves, the generator is closed, the block of
client.stream() is left, and the API stops computing (and charging). /metrics is for Prometheus:
grafana/llmpool.json is a dashboard of it, prometheus/alerts.yml has alerts.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse, StreamingResponse

import llmpool
import llmpool.fleet

BASE_URL = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
MODEL = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
MEMBERS = int(os.environ.get("LLM_MEMBERS", "1"))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Only needed for what differs from the defaults; C code in this process obeys it too.
    llmpool.configure(
        limits=llmpool.Limits(max_connections=20),
        ca_file=os.environ.get("LLM_CA_FILE"),
    )
    # Each of several workers has its part of the API's limits; llmpool.fleet.Redis lends instead.
    with llmpool.fleet.join(members=MEMBERS) if MEMBERS > 1 else nullcontext():
        async with llmpool.AsyncClient(
            base_url=BASE_URL,
            headers={"authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}"},
            timeout=llmpool.Timeout(first_byte=600, read=60),
            budget=llmpool.auto_budget,  # when the API says 429, all calls wait as long as it says
        ) as client:
            app.state.client = client
            yield


app = FastAPI(lifespan=lifespan)


@app.get("/ask")
async def ask(question: str, request: Request) -> StreamingResponse:
    client: llmpool.AsyncClient = request.app.state.client
    stream = client.stream(
        "POST",
        "/chat/completions",
        json={
            "model": MODEL,
            "messages": [{"role": "user", "content": question}],
            "stream": True,
        },
    )
    try:
        response = await stream.__aenter__()  # status and headers, before ours are sent
    except llmpool.PoolTimeout:
        raise HTTPException(503, "too busy", {"retry-after": "1"}) from None
    except llmpool.TransportError as error:
        raise HTTPException(502, str(error)) from None
    if not response.is_success:
        await response.aclose()
        raise HTTPException(502, f"the API said {response.status_code}")

    async def tokens() -> AsyncIterator[str]:
        async with response:  # left when the answer ends, and when the browser goes
            async for event in response.aiter_sse(stop="[DONE]"):
                for choice in event.json()["choices"]:
                    yield choice["delta"].get("content") or ""

    return StreamingResponse(tokens(), media_type="text/plain; charset=utf-8")


@app.get("/metrics")
async def metrics(request: Request) -> PlainTextResponse:
    if "application/openmetrics-text" in request.headers.get("accept", ""):
        kind = "application/openmetrics-text; version=1.0.0; charset=utf-8"
        return PlainTextResponse(llmpool.metrics(openmetrics=True), media_type=kind)
    return PlainTextResponse(llmpool.metrics(), media_type="text/plain; version=0.0.4")
