"""A client that leaves: nothing of its turn may stay behind, wherever the turn was."""

from __future__ import annotations

import asyncio

import pytest
from patience import PATIENCE
from scripted_provider import ScriptedProvider

from services.events import TextDelta


async def gone(client) -> None:
    """Return when no stream runs any more, and no connection gets heartbeats."""
    async with asyncio.timeout(PATIENCE):
        await client.services.streams.idle()
    assert len(client.services.heartbeat) == 0


async def test_hanging_up_before_the_first_token_closes_the_provider(serving):
    provider = ScriptedProvider(None)
    client = await serving(provider=provider)

    async with client.stream("hi") as stream:
        await stream.next()
        await provider.started.wait()

    async with asyncio.timeout(PATIENCE):
        await provider.closed.wait()
    await gone(client)
    assert provider.running == 0


async def test_hanging_up_in_mid_answer_closes_the_provider(serving):
    provider = ScriptedProvider((TextDelta("Hello"),), None)
    client = await serving(provider=provider)

    async with client.stream("hi") as stream:
        await stream.next()
        assert await stream.next() == b'event: token\ndata: {"text":"Hello"}\n\n'

    async with asyncio.timeout(PATIENCE):
        await provider.closed.wait()
    await gone(client)


@pytest.mark.parametrize("cut", range(0, 260, 13))
async def test_a_request_cut_at_any_byte_leaves_nothing(serving, bearer, cut: int):
    provider = ScriptedProvider((TextDelta("Hello"),), None)
    client = await serving(provider=provider)
    body = b'{"message":"hello there"}'
    request = (
        b"POST /api/v1/chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\nAuthorization: %b\r\n\r\n%b"
        % (len(body), bearer["Authorization"].encode(), body)
    )

    _, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(request[: len(request) - cut])
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    await gone(client)
    if provider.started.is_set():
        async with asyncio.timeout(PATIENCE):
            await provider.closed.wait()
    assert provider.running == 0


async def test_bytes_sent_during_the_answer_do_not_hide_the_disconnect(serving, bearer):
    """Sanic stops reading at 64 KiB of unread bytes, and a paused socket sees no FIN."""
    provider = ScriptedProvider(None)
    client = await serving({"OPENAI_SSE_HEARTBEAT_MS": "50"}, provider=provider)
    body = b'{"message":"hi"}'
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(
        b"POST /api/v1/chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\nAuthorization: %b\r\n\r\n%b"
        % (len(body), bearer["Authorization"].encode(), body)
    )
    await reader.readuntil(b"stream\n\n")
    writer.write(b"x" * 100_000)
    await writer.drain()

    writer.transport.abort()

    await gone(client)
