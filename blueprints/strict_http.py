"""HTTP/1 as Sanic speaks it, made strict: its parsers forgive what others read differently."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from sanic.exceptions import BadRequest, RequestTimeout
from sanic.helpers import has_message_body
from sanic.http import Http, Stage

from blueprints.request_head import in_usual_spelling, is_sound, may_become_head, trimmed
from blueprints.response_head import stream_head
from services.errors import HeadTooLarge

if TYPE_CHECKING:
    from blueprints.protocol import StrictProtocol

# Sanic takes `0xf`, ` f ` and a chunk that does not end where it said.
_CHUNK = re.compile(rb"\r\n[0-9A-Fa-f]{1,8}(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_LONGEST_CHUNK_HEAD = 64


class StrictHttp(Http):
    """The requests and responses of one connection."""

    __slots__ = ()
    protocol: StrictProtocol

    def init_for_request(self) -> None:
        """Begin to wait for a request."""
        super().init_for_request()  # type: ignore[no-untyped-call]
        self.protocol.is_late = False  # what was late may have been here all the while, unread
        self.protocol.expect(self.protocol.keep_alive_timeout)

    async def http1_request_header(self) -> None:
        """Receive a head. Raises `BadRequest` for one that may mean different things to others."""
        self._begin_to_read()
        await self._receive_head()
        await super().http1_request_header()  # type: ignore[no-untyped-call]
        request = self.request
        # Nothing here is a websocket, and Sanic lifts all timeouts for one that asks to be.
        self.upgrade_websocket = False
        if not is_sound(request.head, request.version, request.headers):
            self.request_body = None  # its length is not to be trusted
            raise BadRequest
        request.headers = trimmed(request.headers)
        if request.version == "1.0":
            self.expecting_continue = False  # RFC 9110, 10.1.1: it would take 100 for the answer
        # Sanic annotates bools, and puts text.
        if self.request_body != "chunked" and not self.request_bytes_left:  # type: ignore[comparison-overlap]
            # `Content-Length: 0`, as many send with every DELETE: Sanic would log an error that
            # nobody has read the body.
            self.request_body = None
        if self.request_body:
            self.protocol.expect(self.protocol.request_timeout)
        else:
            self._has_read()

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
        if not self.request_body:
            self._has_read()
        return part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The rest of the body, in one part.

        Sanic asks for it before handlers that do not read it themselves, and after answers that
        were given without it, so that the connection can be used again. For those it does not wait long.
        """
        answered = self.stage is not Stage.HANDLER
        if answered:
            if not self.keep_alive:
                self.request_body = (
                    None  # whatever comes of it is dropped when the connection closes
                )
                return
            self.protocol.linger()
        rest = bytearray()
        try:
            while self.request_body:
                rest += await self.read() or b""
        except RequestTimeout:
            if not answered:
                raise
            self.protocol.is_reading = False  # it was waited for, and did not come
        else:
            yield bytes(rest)

    async def http1_response_header(self, data: bytes, end_stream: bool) -> None:
        """Send the head and the first part of a response."""
        if self.expecting_continue:
            # The answer is there before the body was asked for: it should not come any more.
            self.expecting_continue = False
            self.request_body = None
            self.keep_alive = False
        elif (self.request_bytes_left or 0) > self.protocol.request_max_size:
            self.keep_alive = False  # nobody will read so much
        response = self.response
        if (
            data
            and not end_stream
            and not self.head_only
            and has_message_body(response.status)
            and "content-length" not in response.headers
        ):
            await self._begin_stream(data)
        else:
            await super().http1_response_header(data, end_stream)

    async def head_response_ignored(self, data: bytes, end_stream: bool) -> None:  # type: ignore[override]
        """Drop what a handler sends behind the head of a HEAD. Sanic waits for this, and its own can't be waited for."""
        super().head_response_ignored(data, end_stream)

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

    def _begin_to_read(self) -> None:
        self.protocol.is_reading = True
        self.protocol.expect(self.protocol.request_timeout)

    def _has_read(self) -> None:
        self.protocol.is_reading = False
        self.protocol.expect(self.protocol.response_timeout)

    async def _receive_head(self) -> None:
        """Wait until a head is there, for as long as what is there may become one."""
        buffer = self.recv_buffer
        if buffer.startswith(b"\r"):
            await self._skip_empty_line()
        while (end := buffer.find(b"\r\n\r\n")) < 0 and len(buffer) < self.HEADER_MAX_SIZE:
            if not may_become_head(buffer):
                raise BadRequest
            await self._receive_more()
        if not 0 <= end < self.HEADER_MAX_SIZE:
            raise HeadTooLarge
        in_usual_spelling(buffer, end)

    async def _skip_empty_line(self) -> None:
        """Ignore one, with which some clients end a body (RFC 9112, 2.2)."""
        buffer = self.recv_buffer
        while len(buffer) < 2:
            await self._receive_more()
        if not buffer.startswith(b"\r\n"):
            return
        del buffer[:2]
        if not buffer:
            # Nothing was asked yet.
            self.protocol.is_reading = False
            self.protocol.expect(self.protocol.keep_alive_timeout)
            self.stage = Stage.IDLE
            await self._receive_more()
            self.stage = Stage.REQUEST
            self._begin_to_read()

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
