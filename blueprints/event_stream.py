"""The response-streaming callback: one connection follows one stream log, frame by frame."""

from __future__ import annotations

import asyncio

from loguru import logger
from sanic.compat import Header
from sanic.response import BaseHTTPResponse

from blueprints.context import (
    ChatRequest,
    protocol_of,
    request_id_of,
    services_of,
    transport_of,
)
from services.streaming import sse
from services.streaming.log import Readable

HEADERS = {
    "cache-control": "no-cache, no-store, must-revalidate, no-transform",
    "x-accel-buffering": "no",
    "proxy-buffering": "off",
}
CONTENT_TYPE = "text/event-stream"
SLICE = 65_536  # bytes written at once while a reader catches up


async def follow(
    request: ChatRequest, stream: Readable, *, after: int = 0, prelude: bytes = sse.CONNECTED
) -> None:
    """Answer *request* with *stream* from the frame that follows number *after*, to its end.

    Head and *prelude* leave in one write, and only then does the stream begin to work. A client
    that leaves cancels this, which detaches it.
    """
    services = services_of(request)
    # An HTTP/1.0 client knows no chunks; `blueprints/protocol.py` ends its response by closing.
    kind = _PlainConnection if request.version == "1.0" else _Connection
    connection = kind(request, stream, after)
    with stream.attach(connection):
        response = await request.respond(headers=_head(stream), content_type=CONTENT_TYPE)
        assert response is not None  # noqa: S101 - only a websocket has none
        await response.send(prelude)
        _let_go(request, response)
        services.streams.start(stream)
        services.heartbeat.join(connection)
        try:
            await connection.relay(response)
        except Exception:
            # The last chunk would make a broken answer look complete: cut instead.
            logger.opt(exception=True).bind(request_id=request_id_of(request)).error(
                "SSE stream error"
            )
            transport_of(request).abort()
            raise
        finally:
            services.heartbeat.leave(connection)


async def announce(request: ChatRequest, stream: Readable | None = None) -> None:
    """Answer a HEAD *request* with the head that an event stream, or *stream*, would have: it has no length."""
    headers = HEADERS if stream is None else _head(stream)
    response = await request.respond(headers=headers, content_type=CONTENT_TYPE)
    assert response is not None  # noqa: S101 - only a websocket has none
    await response.send(b"", end_stream=False)
    await response.eof()


def _head(stream: Readable) -> dict[str, str]:
    if stream.resumable and stream.id:
        return {**HEADERS, "x-stream-id": stream.id}
    return HEADERS


def _let_go(request: ChatRequest, response: BaseHTTPResponse) -> None:
    """Forget the heads of both, 3 KiB that nobody reads once the answer's has left."""
    request.head, request.headers, response.headers = b"", Header(), Header()


class _Connection:
    """The one writer of a connection.

    `wake` writes straight to the socket while it takes bytes. A full buffer and the end of the body
    are left to `relay`, which can wait. Both use Sanic's protocol below its response object, for one
    write per read of the provider; `tests/http/test_sanic_internals.py` holds what that relies on.
    """

    __slots__ = ("_called", "_log", "_open", "_position", "_protocol", "_transport")

    def __init__(self, request: ChatRequest, stream: Readable, after: int) -> None:
        self._log = stream.log
        self._position = after
        self._protocol = protocol_of(request)
        self._transport = transport_of(request)
        self._open = False
        # Bytes that came in with the request may have paused reading, and then no FIN is seen.
        self._transport.resume_reading()

    def wake(self) -> None:
        """Write what is new, or call `relay` to do it."""
        if self._open and not self._flush() and not self._called.done():
            self._called.set_result(None)

    def beat(self, frame: bytes) -> None:
        """Write a heartbeat, unless older bytes still wait for the socket, or `done` has left."""
        if (
            self._protocol._can_write.is_set()
            and not self._log.ended
            and not self._transport.is_closing()
        ):
            self._write(frame)

    async def relay(self, response: BaseHTTPResponse) -> None:
        """Follow the log to its end, and end the body."""
        while True:
            self._open = True
            if not self._flush():
                # The buffer is full, or there are no more frames.
                self._open = False
                await self._protocol._can_write.wait()
                data, self._position = self._log.read(self._position, limit=SLICE)
                last = self._log.ended and self._position == len(self._log)
                await response.send(data, last)
                if last:
                    return
            else:
                # Not an `asyncio.Event`, which weighs 0.7 KiB for as long as the stream is open.
                self._called = asyncio.get_running_loop().create_future()
                await self._called

    def _flush(self) -> bool:
        """Write all that is new; False if the rest, which may be the end of the body alone, is `relay`'s."""
        log = self._log
        position = self._position
        while position < log.end:
            if not self._protocol._can_write.is_set():
                return False
            data, position = log.read(position, limit=SLICE)
            self._position = position
            if self._transport.is_closing():
                return True  # the cancellation is on its way
            self._write(data)
        return not log.ended

    def _write(self, data: bytes) -> None:
        chunk = b"%x\r\n%b\r\n" % (len(data), data)
        self._transport.write(chunk)
        self._protocol.written += len(chunk)


class _PlainConnection(_Connection):
    """A connection whose response ends where it ends."""

    __slots__ = ()

    def _write(self, data: bytes) -> None:
        self._transport.write(data)
        self._protocol.written += len(data)
