"""One connection: how long it has for what it does, how much of it waits in memory, and how it ends.

Sanic's timeouts restart with every byte, are looked at now and then, and work once. Here each is a moment,
and one timer for all connections looks which have passed (`blueprints/deadlines.py`). That costs
something per request, and nothing per write but a sum.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from contextlib import suppress
from fcntl import ioctl
from math import inf
from termios import TIOCOUTQ
from time import monotonic
from typing import Any

from sanic.exceptions import RequestCancelled, RequestTimeout, ServiceUnavailable
from sanic.http import Stage
from sanic.server import HttpProtocol

from blueprints.gate import Gate
from blueprints.strict_http import StrictHttp

# How long after its last byte, and how many bytes, what still comes in is read and dropped once all is
# answered: closing with unread bytes resets the connection, and the answer may be lost with it (RFC 9112, 9.6).
LINGER = 5.0  # seconds
MOST_DROPPED = 32 * 1024 * 1024
# Written at once; the transport asks to wait above as much.
SLICE = 65_536
# A `struct linger`: on, and 0 seconds.
_RESET = struct.pack("ii", 1, 0)


class StrictProtocol(HttpProtocol):
    """One connection.

    `written` is the sum of all bytes handed to the transport: whoever writes there directly adds to it,
    and `look` tells by it whether the reader takes any, of what the kernel holds too. `is_reading` says that a request
    has begun to arrive and is not there yet, `is_late` that the time for it is over.
    """

    HTTP_CLASS = StrictHttp
    __slots__ = (
        "_dropped",
        "_due",
        "_lingers_until",
        "_stalls_at",
        "_taken",
        "is_late",
        "is_reading",
        "written",
    )

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        # Sanic's own are `asyncio.Event`s, of 0.8 KiB each for as long as the connection is open.
        self._can_write, self._data_received = Gate(is_open=True), Gate()  # type: ignore[assignment]
        self.written = 0
        self.is_reading = self.is_late = False
        self._due = self._lingers_until = inf
        self._taken, self._stalls_at = 0, inf
        self._dropped: int | None = None

    def expect(self, seconds: float) -> None:
        """Give what happens now *seconds* from now. What that means is for `look` to say."""
        self._due = monotonic() + seconds
        self._lingers_until = inf

    def linger(self) -> None:
        """Give the rest of a request that was answered already `LINGER` from its last byte, and a request's time in all."""
        now = monotonic()
        self._lingers_until = now + self.request_timeout
        self._due = min(now + LINGER, self._lingers_until)

    def look(self, now: float) -> None:
        """End what has had its time at *now*: a reader that takes nothing first of all."""
        if self.transport is None:
            return
        waiting = self.transport.get_write_buffer_size()
        if self.written != self._taken and self._stalls(self.transport, now, waiting):
            _forget_unsent(self.transport)
            self.transport.abort()
        elif now >= self._due:
            self._end_what_is_due(now, waiting=waiting > 0)

    async def receive_more(self) -> None:
        """Wait for more of a request. Raises `RequestTimeout` when its time is over."""
        if not self.is_late:
            await super().receive_more()  # type: ignore[no-untyped-call]
        if self.is_late:
            self.http.keep_alive = False
            self.http.request_body = None  # or Sanic would wait for the rest of it
            raise RequestTimeout

    async def send(self, data: bytes) -> None:
        """Write *data* as the reader takes it, so that only a part of it waits in the transport.

        Raises `RequestCancelled` if the connection is closed.
        """
        for start in range(0, len(data), SLICE):
            if not self._can_write.is_set():
                await self._can_write.wait()
            if self.transport is None or self.transport.is_closing():
                raise RequestCancelled
            part = data[start : start + SLICE]
            self.transport.write(part)
            self.written += len(part)
        self._time = monotonic()

    def check_timeouts(self) -> None:
        """Nothing: `look` does it."""

    def close(self, timeout: float | None = None) -> None:
        """Close once what was written has left, and what still comes in was dropped."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        comes_in = self.is_reading or len(self.recv_buffer) > 0
        if comes_in and self._dropped is None and self._crowd is not None:
            self._dropped = 0
            self.recv_buffer.clear()
            self.linger()
            transport.write_eof()
            transport.resume_reading()
        else:
            transport.close()

    def abort(self) -> None:
        """Close at once; what the reader has not taken is lost."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, if there is room for one more."""
        if self._crowd is None or self._crowd.enter(self, transport):
            super().connection_made(transport)  # type: ignore[no-untyped-call]

    def connection_lost(self, exc: Exception | None) -> None:
        """End, and make room."""
        super().connection_lost(exc)  # type: ignore[no-untyped-call]
        if self._crowd is not None:
            self._crowd.leave(self)

    def data_received(self, data: bytes) -> None:
        """Take *data*, unless it is too much or too late."""
        if self._lingers_until < inf:
            self._due = min(monotonic() + LINGER, self._lingers_until)
        if self._dropped is not None:
            self._dropped += len(data)
            if self._dropped > MOST_DROPPED:
                self.abort()
            return
        last_heard = self._time
        super().data_received(data)
        if self.http is None:
            return
        stage = self.http.stage
        if stage is Stage.REQUEST:
            self._time = last_heard  # a head that drips is as good as silence
        waits = stage is Stage.RESPONSE or (stage is Stage.HANDLER and not self.http.request_body)
        if waits and len(self.recv_buffer) >= self.app.config.REQUEST_BUFFER_SIZE:
            # Sanic would stop to read here, and then does not see the client leave.
            self.abort()

    @property
    def _crowd(self) -> Any:
        return getattr(self.app.ctx, "crowd", None)

    def _stalls(self, transport: asyncio.Transport, now: float, waiting: int) -> bool:
        """Whether the reader has acknowledged nothing for too long of what it was sent."""
        # The kernel holds what is sent but not acknowledged, and megabytes that are not sent. TCP_USER_TIMEOUT would
        # not do: it also cuts readers that go on, for Linux restarts it only when a window fits the next segment, of
        # up to 64 KiB.
        taken = self.written - waiting - _waiting_in_kernel(transport)
        if taken != self._taken or self._stalls_at == inf:
            self._taken = taken
            self._stalls_at = inf if taken == self.written else now + self.response_timeout
        return now >= self._stalls_at

    def _end_what_is_due(self, now: float, *, waiting: bool) -> None:
        http = self.http
        if http is None or (http.stage is Stage.IDLE and not http.request_body):
            if waiting:
                self.linger()  # from when it has taken what it was told
            elif http is None:
                self.abort()
            else:
                self.close()
        elif not self.is_late and (http.stage is Stage.REQUEST or http.request_body):
            self.is_late = True
            self._due = now + self.response_timeout
            self._data_received.set()
        elif http.stage is Stage.RESPONSE:
            self._due = inf  # a stream may be silent; whether it is read was seen above
        else:
            self._due = now + self.response_timeout
            if not waiting and self._task is not None:
                # It is we who are late.
                http.exception = ServiceUnavailable()
                self._task.cancel()


def _waiting_in_kernel(transport: asyncio.BaseTransport) -> int:
    """How many bytes the reader has not acknowledged yet (tcp(7), SIOCOUTQ); 0 where that can't be known."""
    try:
        answer = ioctl(transport.get_extra_info("socket").fileno(), TIOCOUTQ, bytes(4))
    except (OSError, ValueError):
        return 0
    return int.from_bytes(answer, sys.byteorder)


def _forget_unsent(transport: asyncio.BaseTransport) -> None:
    """Have the kernel drop with the socket what it holds, which it would otherwise offer for minutes."""
    with suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
