"""OpenAI's dialect when it fails: in a chunk, in a head, in a body that is no stream, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from answers import events_of, failure_of, text_of
from dialects import DONE, chunk, data, openai_events, role_chunk
from replies import answers, babbles, drops, hangs, refuses, resets, sends_at_once
from upstream import SSE, Script, Upstream, sends

from services.errors import (
    ProviderError,
    ProviderProtocolError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
)
from services.events import Finish, TextDelta
from services.providers.openai import OpenAI
from services.turn import Prompt

pytestmark = pytest.mark.usefixtures("reading")


@pytest.mark.parametrize(
    ("script", "text", "kind"),
    [
        pytest.param(sends([role_chunk(), chunk("Hel")]), "Hel", ProviderProtocolError, id="EOF"),
        pytest.param(sends([]), "", ProviderProtocolError, id="empty"),
        pytest.param(sends([chunk("Hel"), DONE]), "Hel", ProviderProtocolError, id="bare DONE"),
        pytest.param(drops(chunk("Hel")), "Hel", ProviderUnavailable, id="cut chunked body"),
        pytest.param(drops(headers=False), "", ProviderUnavailable, id="cut before headers"),
        pytest.param(resets(chunk("Hel")), "Hel", ProviderUnavailable, id="reset"),
        pytest.param(babbles(chunk("Hel")), "Hel", ProviderUnavailable, id="framing"),
        pytest.param(
            sends([chunk("Hel"), b'data: {"choices"\n\n']), "Hel", ProviderProtocolError, id="JSON"
        ),
        pytest.param(
            sends_at_once(chunk("Hel"), b"data: {\n\n"), "Hel", ProviderProtocolError, id="one read"
        ),
        pytest.param(
            sends([b'data: {"choices":[{"delta":{"content":7}}]}\n\n']),
            "",
            ProviderProtocolError,
            id="wrong type",
        ),
        pytest.param(
            sends([b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n']),
            "",
            ProviderProtocolError,
            id="not UTF-8",
        ),
        pytest.param(
            sends([b'data: {"x":' + b"[" * 100_000 + b"\n\n"]),
            "",
            ProviderProtocolError,
            id="too deep",
        ),
        pytest.param(
            sends([chunk("Hel"), *[b"x" * 65_536] * 17]), "Hel", ProviderProtocolError, id="huge"
        ),
        pytest.param(
            sends([chunk("Hel"), data({"error": {"type": "server_error"}})]),
            "Hel",
            ProviderUnavailable,
            id="error object",
        ),
        pytest.param(
            sends([data({"error": {"code": "rate_limit_exceeded"}}), DONE]),
            "",
            ProviderRateLimited,
            id="error object first",
        ),
        pytest.param(
            sends(
                [
                    chunk("Hel"),
                    data(
                        {
                            "choices": [{"delta": {"content": "lo"}, "finish_reason": "error"}],
                            "error": {"code": "server_error"},
                        }
                    ),
                    DONE,
                ]
            ),
            "Hello",
            ProviderUnavailable,
            id="error object beside a finish_reason",
        ),
        pytest.param(
            sends(
                [
                    data(
                        {
                            "choices": [{"delta": {"content": ""}, "finish_reason": "stop"}],
                            "error": {"code": 429},
                        }
                    )
                ]
            ),
            "",
            ProviderRateLimited,
            id="error object first, beside a finish_reason",
        ),
        *(
            pytest.param(
                sends([*said, chunk(reason=reason), DONE]), text, ProviderUnavailable, id=reason
            )
            for reason in ("error", "insufficient_system_resource", "abort")
            for said, text in (([], ""), ([chunk("Hel")], "Hel"))
        ),
        pytest.param(refuses(500), "", ProviderUnavailable, id="500"),
        pytest.param(refuses(401), "", ProviderRejected, id="401"),
        pytest.param(
            refuses(307, headers={"location": "/v1/elsewhere"}), "", ProviderRejected, id="redirect"
        ),
    ],
)
async def test_a_failure_comes_after_all_that_was_said_before_it(
    provider: OpenAI,
    upstream: Upstream,
    prompt: Prompt,
    script: Script,
    text: str,
    kind: type[ProviderError],
) -> None:
    upstream.plays(script)

    said, error = await failure_of(provider, prompt)

    assert type(error) is kind
    assert said == text
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("body", "media_type", "kind", "words", "retryable"),
    [
        (
            b'{"error":{"code":429,"message":"slow down"}}',
            "application/json; charset=utf-8",
            ProviderRateLimited,
            "answered HTTP 200 with an error 429",
            True,
        ),
        (
            b'{"error":{"code":402}}',
            "application/problem+json",
            ProviderRejected,
            "answered HTTP 200 with an error 402",
            False,
        ),
        (
            b'{"object":"error","message":"out of memory","code":503}',
            "application/json",
            ProviderUnavailable,
            "answered HTTP 200 with an error 503",
            True,
        ),
        (
            b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}',
            "application/json",
            ProviderProtocolError,
            "answered application/json instead of an event stream: check the base URL",
            False,
        ),
        (
            b"<html><body>Welcome</body></html>",
            "Text/HTML",
            ProviderProtocolError,
            "answered text/html instead of an event stream: check the base URL",
            False,
        ),
        (
            b"?",
            "sk-planted",
            ProviderProtocolError,
            "answered something instead of an event stream: check the base URL",
            False,
        ),
    ],
)
async def test_a_200_that_is_no_event_stream_is_told_for_what_it_is(
    provider: OpenAI,
    upstream: Upstream,
    prompt: Prompt,
    body: bytes,
    media_type: str,
    kind: type[ProviderError],
    words: str,
    retryable: bool,
) -> None:
    upstream.plays(answers(body, headers={"content-type": media_type, "retry-after": "7"}))

    _, error = await failure_of(provider, prompt)

    assert type(error) is kind
    assert str(error) == f"openai: {words}"
    assert (error.phase, error.retryable) == ("headers", retryable)
    assert error.retry_after == (None if kind is ProviderProtocolError else 7.0)


@pytest.mark.parametrize(
    "headers", [{}, {"content-type": "text/plain"}, {"content-type": "Text/Event-Stream;x=y"}, SSE]
)
async def test_a_gateway_that_does_not_say_that_it_streams_is_read_all_the_same(
    provider: OpenAI, upstream: Upstream, prompt: Prompt, headers: dict[str, str]
) -> None:
    upstream.plays(answers(b"".join(openai_events("Hello")), headers=headers))

    assert await text_of(provider, prompt) == "Hello"


@pytest.mark.parametrize("ending", [drops, resets])
async def test_an_answer_that_gave_its_reason_is_complete_whatever_happens_then(
    provider: OpenAI, upstream: Upstream, prompt: Prompt, ending: Callable[..., Script]
) -> None:
    upstream.plays(ending(chunk("Hello"), chunk(reason="stop")))

    assert await events_of(provider, prompt) == [TextDelta("Hello"), Finish("stop")]


async def test_counts_that_do_not_come_hold_up_an_answer_that_is_complete_for_two_seconds_only(
    provider: OpenAI, upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(hangs(chunk("Hello"), chunk(reason="stop")))

    async with asyncio.timeout(20):
        events = await events_of(provider, prompt)

    assert events == [TextDelta("Hello"), Finish("stop")]


async def test_the_wait_a_provider_asks_for_is_passed_on(
    provider: OpenAI, upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(refuses(429, headers={"Retry-After": "7", "X-Should-Retry": "false"}))

    with pytest.raises(ProviderRateLimited) as caught:
        await events_of(provider, prompt)

    assert caught.value.retry_after == 7.0
    assert not caught.value.retryable


async def test_the_body_of_an_error_is_read_although_it_comes_in_pieces(
    provider: OpenAI, upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(refuses(429, error={"type": "insufficient_quota", "code": "insufficient_quota"}))

    with pytest.raises(ProviderRateLimited, match=r"429 insufficient_quota\Z"):
        await events_of(provider, prompt)
