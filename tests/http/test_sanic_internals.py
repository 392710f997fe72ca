"""What the blueprints use of Sanic below its public interface, on real sockets.

A version of Sanic that breaks one of these breaks streams in ways that are hard to see.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from patience import PATIENCE
from sanic import HTTPResponse, Request, Sanic, text
from sanic.server import HttpProtocol
from scripted_provider import ScriptedProvider

from blueprints.protocol import StrictProtocol
from sanic_server import serve
from services.events import TextDelta

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SILENCE = 1.5  # seconds; the machine may not stop for so long
END = b"\r\n0\r\n\r\n"


@pytest.fixture
async def app(loop: Any) -> AsyncIterator[Sanic]:
    """Sanic alone; a test adds its handler."""
    app = Sanic("internals", configure_logging=False)
    app.config.RESPONSE_TIMEOUT = SILENCE
    yield app
    Sanic._app_registry.pop(app.name, None)


class Client:
    """A connection that reads when it is told to."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.received = b""

    async def until(self, data: bytes, count: int = 1) -> bytes:
        """Everything that came, once *data* has come *count* times or the server has closed."""
        async with asyncio.timeout(PATIENCE):
            while self.received.count(data) < count:
                try:
                    more = await self._reader.read(65_536)
                except ConnectionError:
                    break
                if not more:
                    break
                self.received += more
        return self.received

    async def to_the_end(self) -> bytes:
        """Everything, once the server has closed."""
        return await self.until(b"nothing has this", 1)


@asynccontextmanager
async def connected(port: int, sent: bytes) -> AsyncIterator[Client]:
    """A connection on which *sent* was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    try:
        writer.write(sent)
        yield Client(reader)
    finally:
        writer.transport.abort()


async def test_can_write_is_an_event_that_is_set_while_the_socket_takes_bytes(app: Sanic):
    states: list[Any] = []
    full = asyncio.Event()

    @app.get("/")
    async def flood(request: Request) -> None:
        response = await request.respond()
        await response.send("begin")
        can_write = request.protocol._can_write
        states.extend((type(can_write), can_write.is_set()))
        while can_write.is_set():
            request.transport.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        full.set()
        await can_write.wait()
        states.append(can_write.is_set())
        await response.eof()

    app.config.RESPONSE_TIMEOUT = 10
    async with (
        serve(app, protocol=HttpProtocol) as server,
        connected(server.port, REQUEST) as client,
    ):
        await full.wait()
        assert states == [asyncio.Event, True]
        received = await client.until(END)

    assert states == [asyncio.Event, True, True]
    assert received.endswith(b"x" + END)


async def test_sanic_leaves_timeouts_and_the_end_of_a_connection_to_the_protocol(app: Sanic):
    """Ours has deadlines of its own, and closes in its own way."""
    called: list[str] = []

    class Watched(StrictProtocol):
        __slots__ = ()

        def expect(self, seconds: float) -> None:
            called.append(f"expect {seconds:g}")
            super().expect(seconds)

        def check_timeouts(self) -> None:
            called.append("check_timeouts")

        def close(self, timeout: float | None = None) -> None:
            called.append("close")
            super().close(timeout)

        async def send(self, data: bytes) -> None:
            called.append("send")
            await super().send(data)

        async def receive_more(self) -> None:
            called.append("receive_more")
            await super().receive_more()

    @app.get("/")
    async def answer(request: Request) -> HTTPResponse:
        return text("x")

    app.config.KEEP_ALIVE_TIMEOUT, app.config.REQUEST_TIMEOUT = 3, 2
    last = REQUEST[:-2] + b"Connection: close\r\n\r\n"
    async with (
        serve(app, protocol=Watched) as server,
        connected(server.port, last) as client,
    ):
        await client.to_the_end()

    assert called == [
        "check_timeouts", "expect 3", "receive_more", "expect 2", "expect 1.5", "send", "close"
    ]  # fmt: skip


async def test_chunks_written_to_the_transport_are_part_of_the_same_body(app: Sanic):
    """And leave the connection fit for the next request."""

    @app.get("/")
    async def mixed(request: Request) -> None:
        response = await request.respond()
        await response.send("first ")
        request.transport.write(b"7\r\nsecond \r\n")
        await response.send("last", True)

    async with (
        serve(app, protocol=HttpProtocol) as server,
        connected(server.port, REQUEST * 2) as client,
    ):
        received = await client.until(END, 2)

    body = b"6\r\nfirst \r\n7\r\nsecond \r\n4\r\nlast" + END
    first, second = re.split(rb"(?=HTTP/1\.1 )", received)[1:]
    assert first.partition(b"\r\n\r\n")[2] == body
    assert second.partition(b"\r\n\r\n")[2] == body


async def test_keep_alive_taken_away_closes_after_the_answer(app: Sanic):
    @app.get("/")
    async def last(request: Request) -> None:
        request.stream.keep_alive = False
        response = await request.respond()
        await response.send("x", True)

    async with (
        serve(app, protocol=HttpProtocol) as server,
        connected(server.port, REQUEST * 2) as client,
    ):
        received = await client.to_the_end()

    assert b"\r\nconnection: close\r\n" in received
    assert received.count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize(
    ("framed", "left"),
    [
        (b"Content-Length: 5\r\n\r\nhello", 5),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 0),
    ],
    ids=["length", "chunks"],
)
async def test_a_streaming_handler_sees_how_much_of_the_body_is_to_come(
    app: Sanic, framed: bytes, left: int
):
    seen: list[Any] = []

    @app.post("/", stream=True)
    async def read(request: Request) -> None:
        http = request.stream
        seen.append((bool(http.request_body), http.request_bytes_left or 0))
        body = b""
        while http.request_body:
            body += await http.read() or b""
        seen.append(body)
        response = await request.respond()
        await response.send("ok", True)

    head = b"POST / HTTP/1.1\r\nHost: x\r\n"
    async with (
        serve(app, protocol=HttpProtocol) as server,
        connected(server.port, head + framed) as client,
    ):
        await client.until(b"\r\n\r\nok")

    assert seen == [(True, left), b"hello"]


async def test_a_body_that_was_given_up_is_not_waited_for(app: Sanic):
    @app.post("/", stream=True)
    async def refuse(request: Request) -> None:
        request.stream.keep_alive = False
        request.stream.request_body = None
        response = await request.respond(status=408)
        await response.send("late", True)

    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    async with (
        serve(app, protocol=HttpProtocol) as server,
        connected(server.port, head) as client,
    ):
        received = await client.to_the_end()

    assert received.startswith(b"HTTP/1.1 408 ")
    assert received.endswith(b"\r\n\r\nlate")


async def test_a_client_that_leaves_cancels_the_handler(app: Sanic):
    cancelled = asyncio.Event()

    @app.get("/")
    async def wait(request: Request) -> None:
        response = await request.respond()
        await response.send("begin")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    app.config.RESPONSE_TIMEOUT = 60
    async with serve(app, protocol=HttpProtocol) as server:
        async with connected(server.port, REQUEST) as client:
            await client.until(b"begin")

        async with asyncio.timeout(PATIENCE):
            await cancelled.wait()


def asking(bearer: dict[str, str]) -> bytes:
    body = b'{"message":"hi"}'
    return (
        b"POST /api/v1/chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: %b\r\nContent-Length: %d\r\n\r\n%b"
        % (bearer["Authorization"].encode(), len(body), body)
    )


BRIEF = {"WRITE_TIMEOUT_MS": "1500", "OPENAI_SSE_HEARTBEAT_MS": "300"}


async def test_a_reader_that_takes_nothing_is_cut(serving, bearer):
    """It gets no heartbeats, since older bytes wait for the socket; so nothing moves its limit."""
    provider = ScriptedProvider(*[(TextDelta("x" * 60_000),)] * 60, None)
    server = await serving(BRIEF, provider=provider)

    async with connected(server.port, asking(bearer)):
        async with asyncio.timeout(PATIENCE):
            await provider.closed.wait()
            await server.services.streams.idle()

    assert len(server.services.heartbeat) == 0


async def test_a_reader_of_heartbeats_is_not_cut(serving, bearer):
    server = await serving(BRIEF, provider=ScriptedProvider(None))

    async with connected(server.port, asking(bearer)) as client:
        received = await client.until(b": heartbeat ", 9)

        assert received.count(b": heartbeat ") == 9
        assert len(server.services.streams) == 1
