"""The relay as most would write it: FastAPI, sse-starlette, httpx; line by line, one event per token.

`UPSTREAM_URL=http://127.0.0.1:9000/v1 uvicorn bench.peers.naive:app`. It has no authentication, memory, log,
telemetry or retry. httpx's limit of 100 connections is lifted, or the table would show a queue.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI
from pydantic import BaseModel, Field
from sse_starlette import EventSourceResponse


class Question(BaseModel):
    """The body of a request."""

    message: str = Field(min_length=1, max_length=4000)


@asynccontextmanager
async def _client(app: FastAPI) -> AsyncIterator[None]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
    async with httpx.AsyncClient(limits=limits, timeout=None) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=_client)


@app.post("/api/v1/chat")
async def chat(question: Question) -> EventSourceResponse:
    """Answer with an event stream."""
    return EventSourceResponse(_relay(app.state.client, question.message), ping=10)


async def _relay(client: httpx.AsyncClient, message: str) -> AsyncIterator[dict[str, str]]:
    asked = {
        "model": "gpt-4o-mini",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": message}],
    }
    url = f"{os.environ['UPSTREAM_URL']}/chat/completions"
    async with client.stream("POST", url, json=asked) as response:
        async for line in response.aiter_lines():
            if not line.startswith("data: "):
                continue
            data = line.removeprefix("data: ")
            if data == "[DONE]":
                break
            chunk = json.loads(data)
            if chunk.get("usage"):
                yield {"event": "usage", "data": json.dumps(chunk["usage"])}
            for choice in chunk["choices"]:
                if text := choice["delta"].get("content"):
                    yield {"event": "token", "data": json.dumps({"text": text})}
    yield {"event": "done", "data": json.dumps({"finish_reason": "stop"})}
