"""What OpenAI, and those who speak its dialect, are asked."""

from __future__ import annotations

import pytest
from answers import events_of
from upstream import Upstream

from services.providers.openai import OpenAI
from services.providers.transport import Transport
from services.turn import Message, Prompt

pytestmark = pytest.mark.usefixtures("reading")

MODEL = "gpt-4o-mini"


async def test_the_request_is_what_openai_takes(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    provider = OpenAI(
        transport,
        api_key="sk-planted",
        model=MODEL,
        base_url=upstream.url,
        max_output_tokens=77,
        temperature=0.5,
    )

    await events_of(provider, prompt)

    (request,) = upstream.requests
    assert (request.method, request.target) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer sk-planted"
    assert request.headers["content-type"] == "application/json"
    assert request.json == {
        "model": "gpt-4o-mini",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 77,
        "temperature": 0.5,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello, how are you?"},
        ],
    }


async def test_openai_itself_is_asked_in_its_newer_words(
    upstream: Upstream, prompt: Prompt
) -> None:
    """Reasoning models refuse `max_tokens`, and padding in each chunk would be for nobody."""
    async with Transport("openai", proxy=upstream.origin) as transport:
        provider = OpenAI(transport, api_key="k", model=MODEL, base_url="http://api.openai.com/v1")

        await events_of(provider, prompt)

    (request,) = upstream.requests
    assert request.target == "http://api.openai.com/v1/chat/completions"
    assert request.json["max_completion_tokens"] == 1024
    assert "max_tokens" not in request.json
    assert request.json["stream_options"] == {"include_usage": True, "include_obfuscation": False}


async def test_an_empty_system_prompt_is_left_out(provider: OpenAI, upstream: Upstream) -> None:
    history = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))

    await events_of(provider, Prompt("", history))

    assert upstream.requests[0].json["messages"] == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]


async def test_a_server_that_wants_no_key_is_shown_none(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    """An empty `Bearer` is a malformed header to some."""
    await events_of(OpenAI(transport, api_key="", model=MODEL, base_url=upstream.url), prompt)

    assert "authorization" not in upstream.requests[0].headers
