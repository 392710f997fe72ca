"""Too much of something: junk, connections, requests at once."""

from __future__ import annotations

import asyncio

import pytest
from patience import PATIENCE
from raw_http import PING, answer_to, connected, request
from scripted_provider import ScriptedProvider

from services.events import TextDelta

NO_BEATS = {"OPENAI_SSE_HEARTBEAT_MS": "600000"}


async def test_junk_sent_during_the_answer_is_cut(start, bearer):
    """Without heartbeats, a paused socket would show the disconnect to nobody."""
    provider = ScriptedProvider((TextDelta("Hello"),), None)
    node = await start(NO_BEATS, provider=provider)

    async with connected(node.port) as wire:
        wire.send(request(bearer))
        await wire.reader.readuntil(b"Hello")
        wire.send(b"x" * 1_000_000)
        await wire.closed()

    await node.idle()
    async with asyncio.timeout(PATIENCE):
        await provider.closed.wait()
    await node.serves()


async def test_junk_that_comes_with_the_request_does_not_hide_the_disconnect(start, bearer):
    provider = ScriptedProvider((TextDelta("Hello"),), None)
    node = await start(NO_BEATS, provider=provider)

    async with connected(node.port) as wire:
        wire.send(request(bearer) + b"x" * 65_000)
        await wire.reader.readuntil(b"Hello")

    await node.idle()
    async with asyncio.timeout(PATIENCE):
        await provider.closed.wait()


async def test_connections_that_say_nothing_do_not_keep_others_out(node):
    async with asyncio.timeout(PATIENCE):
        silent = await asyncio.gather(
            *[asyncio.open_connection("127.0.0.1", node.port) for _ in range(400)]
        )
        await node.serves()

    for _, writer in silent:
        writer.transport.abort()


async def test_connections_that_break_off_anywhere_leave_nothing(node, bearer):
    data = request(bearer)

    async def break_off(cut: int) -> None:
        async with connected(node.port) as wire:
            wire.send(data[:cut])
            await wire.writer.drain()

    await asyncio.gather(*[break_off(cut) for cut in range(0, len(data), 2)])

    await node.idle()
    await node.serves()


async def test_pipelined_requests_are_answered_in_order(node, bearer):
    async with connected(node.port) as wire:
        wire.send(request(bearer) + PING + request(bearer, b"{") + PING)

        stream, ping = await wire.response(), await wire.response()
        refused, last = await wire.response(), await wire.response()

    assert stream.headers["content-type"] == "text/event-stream"
    assert stream.body.endswith(b'event: done\ndata: {"finish_reason":"stop"}\n\n')
    assert (ping.status, refused.status, last.status) == (200, 400, 200)
    assert refused.code == "INVALID_JSON"


async def test_a_connection_is_closed_after_its_last_permitted_request(start):
    node = await start({"KEEP_ALIVE_MAX_REQUESTS": "5"})

    async with connected(node.port) as wire:
        wire.send(PING * 20)
        answers = [await wire.response() for _ in range(5)]
        rest = await wire.closed()

    assert [answer.headers["connection"] for answer in answers] == ["keep-alive"] * 4 + ["close"]
    assert rest == b""


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"], ids=["without end", "whole"])
async def test_a_head_that_is_too_large_is_431(node, end):
    """An oversized token was told that its body is too large."""
    response = await answer_to(node.port, PING[:-2] + b"Authorization: " + b"a" * 20_000 + end)

    assert (response.status, response.code) == (431, "REQUEST_HEADER_FIELDS_TOO_LARGE")


async def test_a_thousand_headers_are_refused_or_answered(node):
    lines = b"".join(b"A%d: b\r\n" % number for number in range(1_000))

    response = await answer_to(node.port, PING[:-2] + lines + b"\r\n")

    assert response.status in (200, 431)
    await node.serves()


async def test_a_path_of_thousands_of_segments_is_404(node):
    response = await answer_to(node.port, b"GET " + b"/a" * 3_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")

    assert response.code == "NOT_FOUND"


async def test_a_body_beyond_the_limit_is_413_however_it_comes(node, bearer):
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"

    by_length = await answer_to(node.port, request(bearer, b"", "Content-Length: 999999999999"))
    by_chunks = await answer_to(
        node.port, request(bearer, chunk * 12, "Transfer-Encoding: chunked")
    )

    assert (by_length.status, by_length.code) == (413, "PAYLOAD_TOO_LARGE")
    assert (by_chunks.status, by_chunks.code) == (413, "PAYLOAD_TOO_LARGE")
