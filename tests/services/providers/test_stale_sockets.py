"""A pooled socket that the provider closes just when it is taken: see decision 12."""

from __future__ import annotations

import asyncio

import pytest
from answers import batches_of, events_of, failure_of, settled, text_of
from dialects import openai_events
from patience import PATIENCE
from replies import closes_when_reused, lingers
from upstream import Reply, Script, Upstream, openai

from services.errors import ProviderError, ProviderUnavailable
from services.events import Attempt, Connected, Event, Finish, Retry, TextDelta, Usage
from services.providers.openai import OpenAI
from services.providers.retry import Retrying
from services.providers.transport import Transport
from services.turn import Prompt


def retried(transport: Transport, url: str, *, max_retries: int = 2) -> Retrying:
    """A provider whose retries would take so long that the test fails."""
    adapter = OpenAI(transport, api_key="k", model="gpt-4o-mini", base_url=url)
    return Retrying(adapter, max_retries=max_retries, base=60)


@pytest.mark.parametrize("max_retries", [0, 2])
async def test_a_stale_socket_costs_neither_a_wait_nor_a_retry(
    upstream: Upstream, prompt: Prompt, max_retries: int
) -> None:
    upstream.plays(closes_when_reused(openai("Hello")))
    async with Transport("openai", stale_within=PATIENCE) as transport:
        provider = retried(transport, upstream.url, max_retries=max_retries)
        await text_of(provider, prompt)
        await settled(transport)

        batches = await batches_of(provider, prompt)

        events: list[Event] = [event for batch in batches for event in batch]
        assert [type(event) for event in events] == [Attempt, Connected, TextDelta, Usage, Finish]
        assert [request.connection for request in upstream.requests] == [1, 1, 2]
        assert upstream.requests[2].body == upstream.requests[1].body
        connected = events[1]
        assert isinstance(connected, Connected)
        assert connected.connect > 0  # the new connection's time, not the stale one's
        assert (transport.stale_sockets, transport.connects, transport.pool_hits) == (1, 2, 1)
        await settled(transport)
        assert transport.open == 0


async def test_a_reset_is_as_good_as_an_end(upstream: Upstream, prompt: Prompt) -> None:
    async def resets_when_reused(reply: Reply) -> None:
        await (_reset if len(upstream.requests) == 2 else openai("Hello"))(reply)

    upstream.plays(resets_when_reused)
    async with Transport("openai", stale_within=PATIENCE) as transport:
        provider = retried(transport, upstream.url)
        await text_of(provider, prompt)
        await settled(transport)

        assert await text_of(provider, prompt) == "Hello"
        assert transport.stale_sockets == 1


async def test_a_pool_full_of_stale_sockets_fails_nobody(
    upstream: Upstream, prompt: Prompt
) -> None:
    """As when a provider's front end restarts; each second request is on a connection of its own."""
    everybody_is_here = asyncio.Event()
    upstream.plays(closes_when_reused(lingers(*openai_events("Hello"), after=everybody_is_here)))
    async with Transport("openai", max_sockets=5, stale_within=PATIENCE) as transport:
        provider = retried(transport, upstream.url)
        for _ in range(5):
            await text_of(provider, prompt)
        everybody_is_here.set()
        await settled(transport)
        assert upstream.connections == 5

        answers = [await text_of(provider, prompt) for _ in range(5)]

        assert answers == ["Hello"] * 5
        assert transport.stale_sockets == 5
        assert upstream.connections == 10


@pytest.mark.parametrize(
    ("stale_within", "script"),
    [
        pytest.param(0.05, closes_when_reused(openai("Hello"), after=0.3), id="it breaks later"),
        pytest.param(0.0, closes_when_reused(openai("Hello")), id="nobody waits for it"),
    ],
)
async def test_a_socket_that_breaks_later_had_taken_the_request(
    upstream: Upstream, prompt: Prompt, stale_within: float, script: Script
) -> None:
    """Somebody worked on it, so that is a failed attempt, and counted as one."""
    upstream.plays(script)
    async with Transport("openai", stale_within=stale_within) as transport:
        adapter = OpenAI(transport, api_key="k", model="m", base_url=upstream.url)
        provider = Retrying(adapter, base=0.001)
        await text_of(provider, prompt)
        await settled(transport)

        events = await events_of(provider, prompt)

        assert [type(event) for event in events] == [Retry, TextDelta, Usage, Finish]
        assert transport.stale_sockets == 0


async def test_a_new_connection_that_breaks_is_a_failed_attempt(
    upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(_drop)
    async with Transport("openai", stale_within=PATIENCE) as transport:
        error = await _failure(transport, upstream, prompt)

        assert isinstance(error, ProviderUnavailable)
        assert error.phase == "headers"
        assert len(upstream.requests) == 1


async def test_the_second_request_is_the_last(upstream: Upstream, prompt: Prompt) -> None:
    upstream.plays(openai("Hello"), _drop)
    async with Transport("openai", stale_within=PATIENCE) as transport:
        provider = retried(transport, upstream.url, max_retries=0)
        await text_of(provider, prompt)
        await settled(transport)

        error = await _failure(transport, upstream, prompt)

        assert isinstance(error, ProviderUnavailable)
        assert [request.connection for request in upstream.requests] == [1, 1, 2]
        assert transport.open == 0


async def _failure(transport: Transport, upstream: Upstream, prompt: Prompt) -> ProviderError:
    _, error = await failure_of(retried(transport, upstream.url, max_retries=0), prompt)
    return error


async def _drop(reply: Reply) -> None:
    reply.drop()


async def _reset(reply: Reply) -> None:
    reply.reset()
