"""Sockets: pooled, overflowing, silent, broken, left and reused."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from contextlib import aclosing
from typing import Any

import pytest
from answers import batches_of, collect, events_of, openai_at, settled, text_of, until
from dialects import chunk, openai_events
from replies import hangs, lingers, repeats, sends_at_once
from upstream import Script, Upstream, openai, sends

from services.errors import ProviderUnavailable
from services.events import Attempt, Batch, Connected, Event, Finish, Offer, TextDelta
from services.providers.exchange import Exchange
from services.providers.transport import Transport
from services.turn import Prompt

pytestmark = pytest.mark.usefixtures("reading")


async def test_turns_one_after_the_other_share_a_socket(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    provider = openai_at(transport, upstream.url)

    for _ in range(5):
        await events_of(provider, prompt)
        await settled(transport)

    assert upstream.connections == 1
    assert (transport.connects, transport.pool_hits, transport.overflows) == (1, 4, 0)
    assert transport.connect_seconds > 0


async def test_a_reused_socket_took_no_time_to_connect(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    provider = openai_at(transport, upstream.url)
    await events_of(provider, prompt)
    await settled(transport)

    _, (connected, *_), *_ = await batches_of(provider, prompt)

    assert connected == Connected("openai", "gpt-4o-mini", 0.0)


@pytest.mark.parametrize("leaves", [True, False])
async def test_finish_does_not_wait_for_the_end_of_the_body_and_the_socket_does(
    transport: Transport, upstream: Upstream, prompt: Prompt, leaves: bool
) -> None:
    """The socket is reused only if it was read to its end, also when the reader leaves at `Finish`."""
    end_of_body = asyncio.Event()
    upstream.plays(lingers(*openai_events("Hello"), after=end_of_body), openai("again"))
    provider = openai_at(transport, upstream.url)

    async with aclosing(provider.stream(prompt)) as batches:
        async for batch in batches:
            if leaves and isinstance(batch[-1], Finish):
                break
    assert transport.open == 1
    end_of_body.set()
    await settled(transport)

    assert await text_of(provider, prompt) == "again"
    assert upstream.connections == 1


async def test_a_socket_whose_body_does_not_end_is_not_used_again(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(lingers(*openai_events("Hello"), after=asyncio.Event()), openai("again"))
    provider = openai_at(transport, upstream.url)

    await events_of(provider, prompt)
    text = await text_of(provider, prompt)

    assert text == "again"
    assert upstream.connections == 2


async def test_the_stream_beyond_the_pool_gets_a_socket_of_its_own_that_is_closed_after_use(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(repeats(chunk("x")))
    provider = openai_at(transport, upstream.url)
    running = [provider.stream(prompt) for _ in range(3)]
    for batches in running:
        await anext(batches)
        await anext(batches)
    upstream.plays(openai("Hello"))

    await events_of(provider, prompt)
    await upstream.connected(3)

    assert upstream.requests[3].headers["connection"] == "close"
    assert transport.overflows == 1
    for batches in running:
        await batches.aclose()
    assert transport.open == 0


async def test_of_110_streams_on_50_sockets_nobody_waits_for_a_socket(
    upstream: Upstream, prompt: Prompt
) -> None:
    """aiohttp's own limit makes the 51st wait until another stream ends."""
    everybody_is_here = asyncio.Event()
    upstream.plays(lingers(*openai_events("Hello", "you"), after=everybody_is_here))
    async with Transport("openai", max_sockets=50) as transport:
        provider = openai_at(transport, upstream.url)

        answers = await asyncio.gather(*(text_of(provider, prompt) for _ in range(110)))

        assert answers == ["Helloyou"] * 110  # although not one of 110 bodies has ended
        assert len(upstream.requests) == 110
        assert (transport.connects, transport.overflows) == (110, 60)
        await upstream.connected(50)
        everybody_is_here.set()
        await settled(transport)
        assert len(upstream.open) == 50


async def test_an_idle_socket_that_breaks_is_nobody_s_error(
    transport: Transport, upstream: Upstream, prompt: Prompt, caplog: pytest.LogCaptureFixture
) -> None:
    provider = openai_at(transport, upstream.url)
    await events_of(provider, prompt)
    await settled(transport)

    for connection in tuple(upstream.open):
        connection.transport.abort()
    await upstream.connected(0)
    await asyncio.sleep(0.02)  # the reset has arrived
    text = await text_of(provider, prompt)
    gc.collect()

    assert text == "Hello world"
    assert upstream.connections == 2
    assert caplog.text == ""


async def test_leaving_while_it_connects_leaves_no_socket(
    transport: Transport, full_port: int, prompt: Prompt
) -> None:
    before = _open_files()
    asking = asyncio.ensure_future(
        events_of(openai_at(transport, f"http://127.0.0.1:{full_port}/v1"), prompt)
    )
    await until(lambda: _open_files() > before)

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert _open_files() == before
    assert transport.open == 0


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a Path would be slower and no clearer


@pytest.mark.parametrize(
    ("script", "last"),
    [
        pytest.param(hangs(headers=False), Attempt, id="waiting for headers"),
        pytest.param(hangs(), Connected, id="waiting for the first token"),
        pytest.param(hangs(chunk("Hel")), TextDelta, id="waiting for the next token"),
    ],
)
async def test_cancelling_closes_the_upstream_at_once(
    transport: Transport, upstream: Upstream, prompt: Prompt, script: Script, last: type[Event]
) -> None:
    upstream.plays(script)
    seen: list[Event] = []
    asking = asyncio.ensure_future(collect(openai_at(transport, upstream.url), prompt, seen))
    await upstream.asked(1)
    await until(lambda: any(isinstance(event, last) for event in seen))

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await upstream.abandoned()

    assert transport.open == 0


async def test_closing_the_generator_closes_the_upstream_at_once(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(repeats(chunk("x")))
    batches = openai_at(transport, upstream.url).stream(prompt)
    await anext(batches)
    await anext(batches)

    await batches.aclose()
    await upstream.abandoned()

    assert transport.open == 0


async def test_a_hook_that_fails_at_the_connection_leaves_no_socket_behind(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    def take(batch: Batch) -> None:
        raise LookupError

    async with aclosing(openai_at(transport, upstream.url).stream(prompt)) as batches:
        question = await anext(batches)
        assert isinstance(question, Offer)
        with pytest.raises(LookupError):
            await question.push(take)

    assert transport.open == 0
    await upstream.connected(0)


async def test_closing_the_transport_ends_streams_that_still_run(
    upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(hangs(chunk("Hel")))
    seen: list[Event] = []
    async with Transport("openai") as transport:
        asking = asyncio.ensure_future(collect(openai_at(transport, upstream.url), prompt, seen))
        await until(lambda: TextDelta("Hel") in seen)

    with pytest.raises(ProviderUnavailable):
        await asking


class Watched(Transport):
    """A transport that lets a test see what becomes of its exchanges."""

    async def post(self, *args: Any, **kwargs: Any) -> Exchange:
        exchange = await super().post(*args, **kwargs)
        self.last = weakref.ref(exchange)
        return exchange


@pytest.mark.parametrize(
    "script", [sends(openai_events("Hello")), sends_at_once(*openai_events("Hello"))]
)
async def test_nothing_is_left_of_an_answer_that_ended(
    upstream: Upstream, prompt: Prompt, script: Script
) -> None:
    """A timer that is armed again after the end would keep it, for ever."""
    upstream.plays(script)
    async with Watched("openai") as transport:
        await events_of(openai_at(transport, upstream.url), prompt)
        await settled(transport)
        gc.collect()

        assert transport.last() is None
