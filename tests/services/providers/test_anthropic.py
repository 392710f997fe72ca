"""Anthropic's dialect, over a real socket."""

from __future__ import annotations

import pytest
from answers import events_of, failure_of
from dialects import DONE, anthropic_delta, anthropic_event, anthropic_events
from replies import anthropic, drips, refuses, sends_at_once
from upstream import Script, Upstream, sends

from services.errors import (
    ProviderError,
    ProviderProtocolError,
    ProviderRateLimited,
    ProviderUnavailable,
)
from services.events import Event, Finish, TextDelta, Usage
from services.providers.anthropic import Anthropic
from services.providers.transport import Transport
from services.turn import Message, Prompt

pytestmark = pytest.mark.usefixtures("reading")

MODEL = "claude-haiku-4-5"
DATED = "claude-haiku-4-5-20251001"


def _start(usage: object, **fields: object) -> bytes:
    return anthropic_event("message_start", message={"usage": usage, **fields})


def _torn(text: str) -> bytes:
    delta = f'{{"type":"text_delta","text":"{text}"}}'
    return f'data: {{"type":"content_block_delta","delta":{delta}}}\n\n'.encode()


@pytest.fixture
def provider(transport: Transport, upstream: Upstream) -> Anthropic:
    return Anthropic(transport, api_key="sk-ant-planted", model=MODEL, base_url=upstream.url)


async def test_the_request_is_what_anthropic_takes(
    transport: Transport, upstream: Upstream
) -> None:
    provider = Anthropic(
        transport,
        api_key="sk-ant-planted",
        model=MODEL,
        base_url=upstream.url,
        max_output_tokens=77,
        temperature=1.5,
    )
    upstream.plays(anthropic("x"))
    cut_history = (Message("assistant", "b"), Message("user", "c"), Message("assistant", "d"))

    await events_of(provider, Prompt("Be brief.", (*cut_history, Message("user", "e"))))

    (request,) = upstream.requests
    assert (request.method, request.target) == ("POST", "/v1/messages")
    assert request.headers["x-api-key"] == "sk-ant-planted"
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in request.headers
    assert request.json == {
        "model": "claude-haiku-4-5",
        "max_tokens": 77,
        "temperature": 1.0,
        "stream": True,
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": "d"},
            {"role": "user", "content": "e"},
        ],
    }


async def test_an_empty_system_prompt_is_left_out(provider: Anthropic, upstream: Upstream) -> None:
    upstream.plays(anthropic("x"))

    await events_of(provider, Prompt("", (Message("user", "a"),)))

    assert "system" not in upstream.requests[0].json


@pytest.mark.parametrize(
    ("stop_reason", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("tool_use", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
async def test_every_stop_reason_has_its_word(
    provider: Anthropic, upstream: Upstream, prompt: Prompt, stop_reason: str, expected: str
) -> None:
    upstream.plays(anthropic("Hello", " world", stop_reason=stop_reason))

    *events, finish = await events_of(provider, prompt)

    so_far = Usage(5, 1, DATED, estimated=True)
    assert events == [so_far, TextDelta("Hello"), TextDelta(" world"), Usage(5, 2, DATED)]
    assert isinstance(finish, Finish)
    assert finish.reason == expected


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        pytest.param(
            [
                anthropic_event(
                    "message_start",
                    message={
                        "usage": {
                            "input_tokens": 10,
                            "cache_creation_input_tokens": 100,
                            "cache_read_input_tokens": 1000,
                            "output_tokens": 1,
                        }
                    },
                ),
                anthropic_delta("a"),
                anthropic_event(
                    "message_delta",
                    delta={"stop_reason": "end_turn"},
                    usage={"output_tokens": 7, "input_tokens": None},
                ),
                anthropic_event("message_stop"),
            ],
            [
                Usage(1110, 1, MODEL, cached=1000, written=100, estimated=True),
                TextDelta("a"),
                Usage(1110, 7, MODEL, cached=1000, written=100),
                Finish("stop"),
            ],
            id="tokens in include those read from and written to the cache",
        ),
        pytest.param(
            [
                anthropic_event("something_new", surprise=[1]),
                anthropic_event("content_block_delta", delta={"type": "thinking_delta"}),
                anthropic_event("content_block_delta", delta={"type": "input_json_delta"}),
                anthropic_delta("a"),
                anthropic_event("message_delta", delta={"stop_reason": "end_turn"}),
            ],
            [TextDelta("a"), Finish("stop")],
            id="unknown events, no usage, no message_stop",
        ),
        pytest.param(
            [
                _start({"input_tokens": 25, "cache_read_input_tokens": 107, "output_tokens": 1}),
                anthropic_delta("a"),
                anthropic_event("message_delta", delta={"stop_reason": "end_turn"}),
                anthropic_event("message_stop"),
            ],
            [
                Usage(132, 1, MODEL, cached=107, estimated=True),
                TextDelta("a"),
                Usage(132, 1, MODEL, cached=107, estimated=True),
                Finish("stop"),
            ],
            id="what a message starts with is no count of what was said",
        ),
        pytest.param(
            [
                _start({"input_tokens": -25, "output_tokens": 1}),
                anthropic_delta("a"),
                anthropic_event(
                    "message_delta",
                    delta={"stop_reason": "end_turn"},
                    usage={"input_tokens": 5.0, "output_tokens": 1 << 31},
                ),
            ],
            [TextDelta("a"), Finish("stop")],
            id="counts that can't be",
        ),
        pytest.param(
            [
                _start([1], model="a\0b"),
                anthropic_delta("a"),
                anthropic_event(
                    "message_delta",
                    delta={"stop_reason": "end_turn"},
                    usage={"input_tokens": 5, "output_tokens": 2},
                ),
            ],
            [TextDelta("a"), Usage(5, 2, MODEL), Finish("stop")],
            id="a model's name that no database takes",
        ),
        pytest.param(
            [
                anthropic_delta("a"),
                anthropic_event("message_delta", delta={"stop_reason": "end_turn"}),
                anthropic_event("message_stop"),
                anthropic_event("message_stop"),
                DONE,
                anthropic_delta("b"),
            ],
            [TextDelta("a"), Finish("stop")],
            id="what comes after the end",
        ),
        pytest.param(
            [
                _torn(r"a\ud83d"),
                _torn(r"\ude00b"),
                anthropic_event("message_delta", delta={"stop_reason": "end_turn"}),
            ],
            [TextDelta("a"), TextDelta("😀b"), Finish("stop")],
            id="a character torn in two",
        ),
    ],
)
async def test_the_dialect_is_understood(
    provider: Anthropic,
    upstream: Upstream,
    prompt: Prompt,
    stream: list[bytes],
    events: list[Event],
) -> None:
    upstream.plays(sends(stream), sends_at_once(*stream), drips(b"".join(stream)))

    for _ in range(3):
        assert await events_of(provider, prompt) == events


@pytest.mark.parametrize(
    ("script", "said", "kind"),
    [
        pytest.param(
            sends([anthropic_event("error", error={"type": "overloaded_error"})]),
            "",
            ProviderUnavailable,
            id="overloaded",
        ),
        pytest.param(
            sends([anthropic_delta("a"), anthropic_event("error", error={"type": "api_error"})]),
            "a",
            ProviderUnavailable,
            id="error in mid-stream",
        ),
        pytest.param(
            sends(anthropic_events("a", stop_reason=None)),
            "a",
            ProviderProtocolError,
            id="no stop reason",
        ),
        pytest.param(sends([b"data: x\n\n"]), "", ProviderProtocolError, id="JSON"),
        pytest.param(
            sends([b"x" * (1 << 20), b"x"]), "", ProviderProtocolError, id="an endless line"
        ),
        pytest.param(
            refuses(429, error={"type": "rate_limit_error"}), "", ProviderRateLimited, id="429"
        ),
        pytest.param(
            refuses(529, error={"type": "overloaded_error"}), "", ProviderUnavailable, id="529"
        ),
    ],
)
async def test_a_failure_comes_after_all_that_was_said_before_it(
    provider: Anthropic,
    upstream: Upstream,
    prompt: Prompt,
    script: Script,
    said: str,
    kind: type[ProviderError],
) -> None:
    upstream.plays(script)

    text, error = await failure_of(provider, prompt)

    assert type(error) is kind
    assert text == said


async def test_a_gateway_may_end_as_openai_does(
    provider: Anthropic, upstream: Upstream, prompt: Prompt
) -> None:
    """Some that translate other models into this dialect send [DONE], and no `message_stop`."""
    *events, stop = anthropic_events("Hello")
    upstream.plays(sends([*events, b"data: [DONE]\n\n"]))

    answer = await events_of(provider, prompt)

    assert b"message_stop" in stop
    assert TextDelta("Hello") in answer
    assert answer[-1] == Finish("stop")
