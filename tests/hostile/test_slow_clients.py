"""Clients that take their time: with a request, with its body, with the answer."""

from __future__ import annotations

import asyncio
import socket

import pytest
from patience import PATIENCE
from raw_http import PING, connected, request
from scripted_provider import ScriptedProvider

from services.events import Finish, TextDelta, Usage

BRIEF = {"REQUEST_TIMEOUT_MS": "400"}


async def test_a_head_that_drips_is_cut_at_its_deadline(start):
    """Slowloris: any byte used to reset the clock."""
    node = await start(BRIEF)

    late = PING[:-2] + b"A: " + b"a" * 5_000
    async with connected(node.port) as wire, wire.dripping(late, 0.05):
        response = await wire.response()

    assert (response.status, response.code) == (408, "REQUEST_TIMEOUT")
    await node.serves()


async def test_the_deadline_of_a_head_holds_for_later_requests_too(start):
    node = await start(BRIEF)

    async with connected(node.port) as wire:
        wire.send(PING)
        assert (await wire.response()).status == 200
        async with wire.dripping(PING[:20] + b"a" * 5_000, 0.05):
            late = await wire.response()

    assert late.status == 408


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_a_body_that_drips_is_cut_at_its_deadline(start, bearer, method):
    node = await start(BRIEF)
    path = "/api/v1/chat" if method == "POST" else "/api/v1/chat/str_x"

    async with connected(node.port) as wire:
        wire.send(request(bearer, b"", "Content-Length: 1000", method=method, path=path))
        async with wire.dripping(b"x" * 200, 0.05):
            response = await wire.response()
        await wire.closed()

    assert (response.status, response.code) == (408, "REQUEST_TIMEOUT")
    await node.serves()


@pytest.mark.parametrize("framing", ["Content-Length: 20000", "Transfer-Encoding: chunked"])
async def test_a_refused_body_that_never_comes_does_not_hold_the_connection(start, framing):
    """Sanic waited for it as long as a connection may be idle."""
    node = await start({"REQUEST_TIMEOUT_MS": "500"})

    async with connected(node.port) as wire:
        wire.send(request({"Authorization": "Bearer none"}, b"", framing))
        response = await wire.response()
        async with asyncio.timeout(PATIENCE):
            rest = await wire.closed()

    assert response.status == 401
    assert rest == b""


async def test_a_refused_body_that_is_there_leaves_the_connection_usable(node):
    async with connected(node.port) as wire:
        wire.send(request({"Authorization": "Bearer none"}) + PING)

        assert (await wire.response()).status == 401
        assert (await wire.response()).status == 200


async def test_a_reader_that_takes_nothing_is_a_disconnect(start, bearer):
    """Its answer is stopped, its turn is recorded as left, and its buffer stays small meanwhile."""
    piece = (TextDelta("x" * 20_000),)
    provider = ScriptedProvider(*[piece] * 150, None)
    node = await start(
        {"WRITE_TIMEOUT_MS": "600", "OPENAI_SSE_HEARTBEAT_MS": "100"}, provider=provider
    )
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", node.port))
    await asyncio.get_running_loop().sock_sendall(sock, request(bearer))

    await provider.started.wait()
    [connection] = node.connections
    most = 0
    async with asyncio.timeout(PATIENCE):
        while provider.running:
            most = max(most, connection.transport.get_write_buffer_size())
            await asyncio.sleep(0.02)
    await node.idle()
    sock.close()

    assert most <= 256 * 1024
    await node.serves()


async def test_a_slow_reader_that_goes_on_reading_gets_everything(start, bearer):
    words = [(TextDelta("y" * 5_000),) for _ in range(60)]
    provider = ScriptedProvider(*words, (Usage(1, 1, model="m"), Finish("stop")))
    node = await start(
        {"WRITE_TIMEOUT_MS": "5000", "OPENAI_SSE_HEARTBEAT_MS": "100"}, provider=provider
    )

    async with connected(node.port) as wire:
        wire.send(request(bearer))
        body = b""
        while b"event: done" not in body:
            body += await wire.reader.read(8_192)
            await asyncio.sleep(0.01)

    assert body.count(b"event: token") == 60
