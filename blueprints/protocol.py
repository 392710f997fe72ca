"""HTTP/1 as Sanic speaks it, made strict: for clients that are slow, odd or hostile.

Sanic's timeouts restart with every byte, its parsers forgive, and a client that sends on while it is
answered hides that it left. What is here costs something per request, nothing per write.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

from sanic.exceptions import BadRequest, RequestTimeout
from sanic.http import Http, Stage
from sanic.server import HttpProtocol

from blueprints.gate import Gate
from blueprints.request_head import is_sound, trimmed
from blueprints.response_head import stream_head

# How long the body of a request that was answered without it may still take, in seconds.
LINGER = 1.0

# Sanic takes `0xf`, ` f ` and a chunk that does not end where it said.
_CHUNK = re.compile(rb"\r\n[0-9A-Fa-f]{1,8}(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_LONGEST_CHUNK_HEAD = 64


class StrictHttp(Http):
    """The requests and responses of one connection."""

    __slots__ = ()

    async def http1_request_header(self) -> None:
        """Receive a head. Raises `BadRequest` for one that may mean different things to others."""
        await super().http1_request_header()  # type: ignore[no-untyped-call]
        request = self.request
        # Nothing here is a websocket, and Sanic lifts all timeouts for one that asks to be.
        self.upgrade_websocket = False
        if not is_sound(request.head, request.version, request.headers):
            self.request_body = None  # its length is not to be trusted
            raise BadRequest
        request.headers = trimmed(request.headers)
        # Sanic annotates bools, and puts text.
        if self.request_body != "chunked" and not self.request_bytes_left:  # type: ignore[comparison-overlap]
            # `Content-Length: 0`, as many send with every DELETE: Sanic would log an error that
            # nobody has read the body.
            self.request_body = None

    def create_empty_request(self) -> None:
        """Make up a request to answer a head that could not be read."""
        self.url = None  # Sanic would parse it again, and fail again
        super().create_empty_request()

    async def read(self) -> bytes | None:
        """A part of the body. Raises `BadRequest` for a chunk that is not exactly one."""
        # Sanic annotates bytes, and puts text.
        if self.request_body == "chunked" and not self.request_bytes_left:  # type: ignore[comparison-overlap]
            await self._expect_chunk()
        part: bytes | None = await super().read()
        return part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The rest of the body, in one part.

        Sanic asks for it before handlers that do not read it themselves, and after answers that
        were given without it. It does not wait for ever.
        """
        answered = self.stage is not Stage.HANDLER
        try:
            async with asyncio.timeout(LINGER if answered else self.protocol.request_timeout):
                rest = bytearray()
                while self.request_body:
                    rest += await self.read() or b""
        except TimeoutError as exc:
            self.keep_alive = False
            self.request_body = None
            if not answered:
                raise RequestTimeout from exc
        else:
            yield bytes(rest)

    async def http1_response_header(self, data: bytes, end_stream: bool) -> None:
        """Send the head and the first part of a response."""
        if self.expecting_continue:
            # The answer is there before the body was asked for: it should not come any more.
            self.expecting_continue = False
            self.request_body = None
            self.keep_alive = False
        if data and not end_stream:
            await self._begin_stream(data)
        else:
            await super().http1_response_header(data, end_stream)

    async def _begin_stream(self, data: bytes) -> None:
        """Send the head and the first part of a response that has no length."""
        headers = self.response.headers
        if self.request.version == "1.0":
            # A client that knows no chunks: its response ends with the connection.
            self.keep_alive = False
            self.response_func = self._continue_until_close
        else:
            headers["transfer-encoding"] = "chunked"
            data = b"%x\r\n%b\r\n" % (len(data), data)
            self.response_func = self.http1_response_chunked
        headers["connection"] = "keep-alive" if self.keep_alive else "close"
        await self._send(stream_head(self.response) + data)
        self.stage = Stage.RESPONSE

    async def _continue_until_close(self, data: bytes, end_stream: bool) -> None:
        if data:
            await self._send(data)
        if end_stream:
            self.stage = Stage.IDLE

    async def _expect_chunk(self) -> None:
        if self.expecting_continue:
            self.expecting_continue = False
            await self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        buffer = self.recv_buffer
        while buffer.find(b"\r\n", 2) < 0 and len(buffer) <= _LONGEST_CHUNK_HEAD:
            await self._receive_more()
        if not _CHUNK.match(buffer):
            self.keep_alive = False
            raise BadRequest


class StrictProtocol(HttpProtocol):
    """One connection."""

    HTTP_CLASS = StrictHttp
    __slots__ = ()

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        # Sanic's own are `asyncio.Event`s, of 0.8 KiB each for as long as the connection is open.
        self._can_write, self._data_received = Gate(is_open=True), Gate()  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, if there is room for one more."""
        crowd = getattr(self.app.ctx, "crowd", None)
        if crowd is None or crowd.enter(self, transport):
            super().connection_made(transport)  # type: ignore[no-untyped-call]

    def connection_lost(self, exc: Exception | None) -> None:
        """End, and make room."""
        super().connection_lost(exc)  # type: ignore[no-untyped-call]
        if (crowd := getattr(self.app.ctx, "crowd", None)) is not None:
            crowd.leave(self)

    def data_received(self, data: bytes) -> None:
        """Take *data*; what comes in does not excuse a late head or a reader that takes nothing."""
        counted_from = self._time
        super().data_received(data)
        if self.http is None:
            return
        stage = self.http.stage
        if stage is Stage.REQUEST or stage is Stage.RESPONSE:
            self._time = counted_from
        waits = stage is Stage.RESPONSE or (stage is Stage.HANDLER and not self.http.request_body)
        if (
            self.transport
            and waits
            and len(self.recv_buffer) >= self.app.config.REQUEST_BUFFER_SIZE
        ):
            # Sanic would stop to read here, and then does not see the client leave.
            self.transport.abort()
