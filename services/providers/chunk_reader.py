"""The chunked body of an answer, taken from its socket ahead of aiohttp's reader.

aiohttp connects, parses the head, ends the body, and keeps the socket for the next turn. In between,
for as long as the body is plain chunks, its parser and its `StreamReader` only stand in the way of
every token (docs/decisions/0013).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

HIGH_WATER = 65_536  # bytes that may wait for the reader before the socket has to

_SIZE = re.compile(rb"0*([1-9A-Fa-f][0-9A-Fa-f]{0,7})\r\n")
_LONGEST_SIZE = 10
_HEAD_END = b"\r\n\r\n"


class ChunkReader(asyncio.Protocol):
    """Stands in for aiohttp's *handler* at *transport*, from the request to the end of plain chunks.

    A simple head it passes on whole, and chunks with content it reads itself. Anything else (another head, the
    last chunk, an extension, what is no HTTP at all) it does not understand: with the first such byte it hands the
    socket back to aiohttp, which is just before a chunk and reads on. `flowing` is False from then on.
    """

    def __init__(self, handler: asyncio.Protocol, transport: asyncio.Transport) -> None:
        self.flowing = True
        self.arrived: list[bytes] = []
        """What was not taken yet, without its framing."""
        self._handler = handler
        self._transport = transport
        self._in_body = False
        self._held = b""  # the beginning of a chunk's size
        self._left = 0  # bytes to come of the chunk at hand, its CRLF included
        self._size = 0
        self._paused = False
        self._sink: Callable[[bytes], bool] | None = None
        self._refused: Exception | None = None  # what the sink raised
        self._arrival: asyncio.Future[None] | None = None
        transport.set_protocol(self)

    def take(self) -> bytes:
        """All that has arrived."""
        arrived = self.arrived
        data = arrived[0] if len(arrived) == 1 else b"".join(arrived)
        arrived.clear()
        self._size = 0
        if self._paused:
            # Not at once: a provider that sends faster than we read would keep the loop to itself.
            asyncio.get_running_loop().call_soon(self._resume)
        return data

    def arrival(self) -> asyncio.Future[None]:
        """Done when something has arrived, or `flowing` is no longer so. For one reader."""
        self._arrival = asyncio.get_running_loop().create_future()
        return self._arrival

    async def push(self, sink: Callable[[bytes], bool]) -> None:
        """Call *sink* with what arrives as it arrives, until it returns False or `flowing` is so.

        Raises what *sink* raises.
        """
        self._sink = sink
        try:
            if self.arrived:
                self._push(sink)
            while self.flowing and self._sink is not None:
                await self.arrival()
            if self._refused is not None:
                raise self._refused
        finally:
            self._sink = self._refused = None

    def stop(self) -> None:
        """Throw away what has arrived: aiohttp's reader was told why the answer ends here."""
        self.flowing = False
        self.arrived.clear()
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Take in what the socket brought."""
        if self._in_body:
            self._read(data)
        elif _is_plain(head := data[: data.find(_HEAD_END) + len(_HEAD_END)]):
            self._in_body = True
            self._handler.data_received(head)
            self._read(data[len(head) :])
        else:
            self._hand_back(data)
        if self._sink is None or not self.arrived:
            self._wake()
        else:
            self._push(self._sink)

    def connection_lost(self, exc: Exception | None) -> None:
        """Have aiohttp tell what that means for the answer."""
        self.flowing = False
        self._handler.connection_lost(exc)
        self._wake()

    def eof_received(self) -> bool | None:
        """Have aiohttp decide."""
        return self._handler.eof_received()

    def pause_writing(self) -> None:
        """Have aiohttp note that the rest of the request waits."""
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        """Have aiohttp note that it was taken."""
        self._handler.resume_writing()

    def _push(self, sink: Callable[[bytes], bool]) -> None:
        try:
            if not sink(self.take()):
                self._sink = None
        except Exception as exc:
            # Not out of here: the socket's transport would take it for its own, and close.
            self._sink, self._refused = None, exc
        if self._sink is None or not self.flowing:
            self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _read(self, data: bytes) -> None:
        if self._held:
            data, self._held = self._held + data, b""
        at, end = 0, len(data)
        while at < end:
            if self._left:
                at = self._read_on(data, at)
                continue
            if (size := _SIZE.match(data, at)) is None:
                self._read_oddity(data[at:])
                break
            start = size.end()
            stop = start + int(size[1], 16)
            # As nearly always: a whole chunk, and the read ends with it.
            if data[stop : stop + 2] == b"\r\n":
                self.arrived.append(data[start:stop])
                self._size += stop - start
                at = stop + 2
            else:
                self._left = stop - start + 2
                at = start
        if self._size > HIGH_WATER and self.flowing and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _read_on(self, data: bytes, at: int) -> int:
        """Read the chunk at hand from *at*; where it ends in *data*."""
        if (content := data[at : at + self._left - 2]) and self._left > 2:
            self.arrived.append(content)
            self._size += len(content)
            self._left -= len(content)
            return at + len(content)
        end = data[at : at + self._left]
        if not b"\r\n"[-self._left :].startswith(end):
            self._transport.abort()  # and aiohttp tells that the body is not complete
            return len(data)
        self._left -= len(end)
        return at + len(end)

    def _read_oddity(self, data: bytes) -> None:
        if len(data) <= _LONGEST_SIZE and b"\n" not in data:
            self._held = data
        else:
            self._hand_back(data)

    def _hand_back(self, data: bytes) -> None:
        self.flowing = False
        self._resume()
        self._transport.set_protocol(self._handler)
        self._handler.data_received(data)

    def _resume(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._transport.resume_reading()
        self._paused = False


def _is_plain(head: bytes) -> bool:
    """Whether *head* announces plain chunks, and nobody could read its lines in another way."""
    head = head.lower()
    lines = head.count(b"\r\n")
    return (
        head.startswith(b"http/1.1 200 ")
        and b"\r\ntransfer-encoding: chunked\r\n" in head
        and head.count(b"-encoding") == 1
        and lines == head.count(b"\n") == head.count(b"\r")
        and b"\r\n " not in head
        and b"\r\n\t" not in head
    )
