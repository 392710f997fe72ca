"""Deadlines: what a connection does has its time, to the second, and bytes that come in lengthen none."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fcntl import ioctl
from termios import FIONREAD
from time import monotonic

import pytest
from patience import PATIENCE, until
from raw_http import PING, answer_to, connected, request
from sanic import text
from sanic.http import Stage
from scripted_provider import ScriptedProvider

from blueprints.deadlines import PERIOD, Deadlines
from blueprints.protocol import LINGER
from sanic_server import SanicServer
from services.events import TextDelta
from tests.hostile.conftest import Node

DOCS = b"GET /docs/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
BRIEF = {"WRITE_TIMEOUT_MS": "300"}


@asynccontextmanager
async def unread(port: int, data: bytes, *, buffer: int = 4_096) -> AsyncIterator[socket.socket]:
    """A connection that has sent *data* and reads nothing."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(sock, data)
        yield sock


# So many answers fill what the kernel takes anywhere between the first and the last.
@pytest.mark.parametrize("number", [34, 40, 60, 80])
@pytest.mark.parametrize("tail", [b"", b"G"], ids=["", "and a byte"])
async def test_whoever_reads_no_answer_is_cut(start, number, tail):
    """Sanic looked once, and then waited for ever to say 408 to one who does not read."""
    node = await start(BRIEF | {"REQUEST_TIMEOUT_MS": "300", "KEEP_ALIVE_TIMEOUT_MS": "300"})

    async with unread(node.port, DOCS * number + tail):
        await until(lambda: node.connections)
        await until(lambda: not node.connections)

    assert len(node.server.app.ctx.crowd) == 0


async def test_bytes_do_not_excuse_one_who_reads_no_answer(start):
    node = await start(BRIEF)

    async with unread(node.port, DOCS * 100) as sock:
        await until(lambda: node.connections)
        async with asyncio.timeout(PATIENCE):
            while node.connections:
                try:
                    sock.send(b"x")
                except OSError:
                    break
                await asyncio.sleep(0.02)
        await until(lambda: not node.connections)


async def test_those_who_read_no_answer_make_way_for_others(start):
    """Eight of them kept a service of eight connections shut, and had shown no token."""
    node = await start({"LIMIT_PROCESS_CONNECTIONS": "2"})

    async with unread(node.port, DOCS * 100), unread(node.port, DOCS * 100):
        await until(lambda: _all_stuck(node))
        answer = await answer_to(node.port, PING)

    assert answer.status == 200


async def test_a_reader_that_goes_on_is_not_cut_however_slow_it_is(start):
    """The kernel asks for more only now and then, and what was read meanwhile has to count."""
    node = await start({"WRITE_TIMEOUT_MS": "1000"})
    last = PING.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    got, began = b"", monotonic()

    async with unread(node.port, DOCS * 80 + last, buffer=16_384) as sock:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            while data := await loop.sock_recv(sock, 8_192):
                got += data
                if monotonic() - began < 3:
                    await asyncio.sleep(0.05)

    assert got.count(b"HTTP/1.1 200 OK") == 81
    assert got.endswith(b'{"status":"ok","authenticated":false}')


async def test_a_reader_with_a_small_window_is_not_cut_by_the_kernel(start, bearer):
    """TCP_USER_TIMEOUT reset it while it read on: no window that it opened fitted the next 64 KiB."""
    provider = ScriptedProvider((TextDelta("x" * 250_000),), None)
    node = await start({"WRITE_TIMEOUT_MS": "1000"}, provider=provider)
    began = monotonic()

    async with unread(node.port, request(bearer)) as sock:
        loop = asyncio.get_running_loop()
        while monotonic() - began < 4:
            assert await loop.sock_recv(sock, 512)
            await asyncio.sleep(0.05)
        assert node.connections

    await until(lambda: not node.connections)


async def test_a_reader_that_is_gone_is_noticed_though_the_kernel_holds_all_it_was_sent(
    start, bearer
):
    """A phone that went out of reach sends no FIN, and what the kernel takes for it is megabytes."""
    provider = ScriptedProvider((TextDelta("x" * 100_000),), None)
    node = await start({"WRITE_TIMEOUT_MS": "500"}, provider=provider)

    async with unread(node.port, request(bearer)) as sock:
        await provider.started.wait()
        [connection] = node.connections
        await until(lambda: not node.connections)
        [left] = struct.unpack("i", ioctl(sock, FIONREAD, bytes(4)))

    assert connection.transport.get_write_buffer_size() == 0
    assert left < 100_000
    await node.idle()


async def test_who_has_taken_everything_is_not_cut_however_long_nothing_comes(node):
    async with connected(node.port) as wire:
        wire.send(PING)
        await wire.response()
        [connection] = node.connections
        await until(lambda: connection.http.stage is Stage.IDLE)
        began = monotonic()
        connection.look(began)
        wire.send(DOCS)
        await wire.response()
        connection.look(began + 40)
        connection.look(began + 41)

        assert not connection.transport.is_closing()


async def test_a_head_is_late_when_its_time_is_over_and_not_before(node):
    """By default it was cut after 45 s, where 30 s were promised."""
    async with connected(node.port) as wire:
        wire.send(PING[:-2])
        await until(lambda: node.connections)
        [connection] = node.connections
        await until(lambda: connection.http is not None and connection.http.stage is Stage.REQUEST)
        began = monotonic()
        for second in range(29):
            connection.look(began + second)
            connection.data_received(b"A: b\r\n")
        connection.look(began + 31)
        response = await wire.response()

    assert (response.status, response.code) == (408, "REQUEST_TIMEOUT")


async def test_a_reader_is_late_when_its_time_is_over_and_not_before(node):
    async with unread(node.port, DOCS * 100):
        await until(lambda: _all_stuck(node))
        [connection] = node.connections
        began = monotonic() + PERIOD
        connection.look(began)
        for second in range(30):
            connection.look(began + second)
            assert not connection.transport.is_closing()
        connection.look(began + 31)
        await until(lambda: not node.connections)


async def test_a_connection_that_asks_nothing_is_closed_when_its_time_is_over(node):
    async with connected(node.port) as wire:
        wire.send(PING)
        await wire.response()
        [connection] = node.connections
        await until(lambda: connection.http.stage is Stage.IDLE)
        connection.look(monotonic() + 64)
        assert not connection.transport.is_closing()
        connection.look(monotonic() + 66)

        assert await wire.closed() == b""


@pytest.mark.parametrize("connections", [1, 500, 1_700])
async def test_each_connection_is_looked_at_in_every_period(connections):
    class Looked:
        times = 0

        def look(self, now: float) -> None:
            self.times += 1

    each = [Looked() for _ in range(connections)]
    deadlines = Deadlines(each, shortest=0.08)

    deadlines.start()
    await until(lambda: min(one.times for one in each) >= 3)
    deadlines.stop()

    assert max(one.times for one in each) <= min(one.times for one in each) + 1
    assert PERIOD <= 1


async def test_a_handler_of_our_own_that_takes_too_long_is_503(make_app):
    app = make_app(BRIEF)

    @app.get("/slow", ctx_public=True)
    async def slow(request):
        await asyncio.Event().wait()
        return text("")

    server = SanicServer(app)
    await server.start()
    try:
        response = await answer_to(server.port, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await Node(server).serves()
    finally:
        await server.stop()

    assert response.status == 503
    assert response.headers["retry-after"] == "1"


async def test_a_body_that_was_here_and_not_read_in_time_makes_no_later_request_late(make_app):
    """Whoever looked up a key for long was answered, and the connection broke after the answer."""
    app = make_app({"REQUEST_TIMEOUT_MS": "200"})

    @app.post("/slow", stream=True, ctx_public=True)
    async def slow(request):
        await asyncio.sleep(0.6)
        return text((await request.stream.read()).decode())

    server = SanicServer(app)
    await server.start()
    try:
        async with connected(server.port) as wire:
            wire.send(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
            assert (await wire.response()).body == b"hi"
            wire.send(PING)
            response = await wire.response()
    finally:
        await server.stop()

    assert response.status == 200


@pytest.mark.parametrize("size", [100_000, 5_000_000])
@pytest.mark.parametrize("valid", [True, False], ids=["413", "401"])
async def test_a_refusal_reaches_one_who_sends_the_whole_body_first(node, bearer, valid, size):
    """Closing with unread bytes resets the connection, and most clients lost the answer with it."""
    headers = bearer if valid else {"Authorization": "Bearer none"}

    async with connected(node.port) as wire:
        wire.send(request(headers, b"x" * size))
        await wire.writer.drain()
        await asyncio.sleep(0.02)
        response = await wire.response()
        rest = await wire.closed()

    assert response.status == (413 if valid else 401)
    assert response.headers["connection"] == "close"
    assert rest == b""
    await until(lambda: not node.connections)


@pytest.mark.parametrize("size", [100, 50_000])
async def test_who_still_sends_what_was_refused_is_waited_for(node, size):
    """A phone takes longer than `LINGER` to send a body, and lost the 401 when its connection was reset."""
    async with connected(node.port) as wire:
        wire.send(request({"Authorization": "Bearer none"}, b"", f"Content-Length: {size}"))
        assert (await wire.response()).status == 401
        answered = monotonic()
        [connection] = node.connections
        await asyncio.sleep(0.3)
        wire.send(b"x" * (size - 1))
        await until(lambda: connection._due > answered + LINGER + 0.2)
        connection.look(answered + LINGER + 0.1)
        wire.send(b"x")
        await asyncio.sleep(0.05)

        if size == 100:
            wire.send(PING)
            assert (await wire.response()).status == 200
        else:
            assert not connection.transport.is_closing()
            connection.look(monotonic() + LINGER)
            await until(lambda: not node.connections)


async def test_what_is_dropped_has_an_end(start):
    node = await start({"REQUEST_TIMEOUT_MS": "300"})

    async with connected(node.port) as wire:
        wire.send(request({"Authorization": "Bearer none"}, b"x", "Content-Length: 999999999"))
        assert (await wire.response()).status == 401
        assert await wire.reader.read() == b""
        async with asyncio.timeout(PATIENCE):
            while node.connections:
                wire.send(b"x" * 1_000)
                await asyncio.sleep(0.02)


def _all_stuck(node: Node) -> bool:
    return bool(node.connections) and all(
        connection.http is not None
        and connection.http.stage is Stage.HANDLER
        and not connection._can_write.is_set()
        for connection in node.connections
    )
