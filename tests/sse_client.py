"""A strict SSE client over raw sockets: it takes nothing but the promised bytes, and can cut anywhere.

    client = Client(server.port, token)
    async with client.ask("hi", resumable=True) as answer:
        event = await answer.next_event()

An `Answer` keeps what it got: `body` (without the chunk framing), `chunks`, `events`, `comments`, and
`complete`, which holds only after a clean end of the body. Reading further than the end raises
`EndOfStream`; bytes that break the wire format raise `BadStream`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from patience import PATIENCE

_FRAME = re.compile(rb"event: (token|usage|done)\ndata: (\{[^\n]*\})(?:\nid: (0?[1-9][0-9]*))?")
_PREAMBLE = re.compile(rb"(?:retry: [0-9]+\n)?(: [^\n]+)")


class BadStream(AssertionError):
    """The server sent what the wire format does not allow."""


class EndOfStream(Exception):
    """There is nothing more: the body has ended, or the connection has."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event, and the bytes it was."""

    name: str
    data: Any
    id: int | None
    raw: bytes


class EventParser:
    """Turns body bytes, cut anywhere, into events; stricter than the standard, as is the server."""

    def __init__(self) -> None:
        self.events: list[ServerEvent] = []
        self.comments: list[str] = []
        self.retry: int | None = None
        self._rest = b""

    @property
    def rest(self) -> bytes:
        """Bytes of a block that is not complete yet; a client that is cut here loses them."""
        return self._rest

    def feed(self, data: bytes) -> None:
        """Take *data* into account. Raises `BadStream`."""
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        for block in blocks:
            self._take(block)

    def _take(self, block: bytes) -> None:
        if preamble := _PREAMBLE.fullmatch(block):
            if block.startswith(b"retry: "):
                self.retry = int(block.partition(b"\n")[0][7:])
            self.comments.append(preamble[1][2:].decode("ascii"))
        elif frame := _FRAME.fullmatch(block):
            if self.events and self.events[-1].name == "done":
                raise BadStream(f"an event after done: {block!r}")
            number = int(frame[3]) if frame[3] else None
            if number is not None and self.events and number != (self.events[-1].id or 0) + 1:
                raise BadStream(f"event {number} follows event {self.events[-1].id}")
            if not block.isascii():
                raise BadStream(f"not ASCII: {block!r}")
            data = json.loads(frame[2])
            if (frame[3] or b"").startswith(b"0") != (data.get("code") == "STREAM_LOST"):
                raise BadStream(f"only the end of a lost stream has a leading zero: {block!r}")
            self.events.append(ServerEvent(frame[1].decode(), data, number, block + b"\n\n"))
        else:
            raise BadStream(f"neither an event nor a comment: {block!r}")


class Answer:
    """One response, read as far as its reader asks for."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str
    ) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.chunks: list[bytes] = []
        self.complete = False
        self._method = method
        self._parser = EventParser()
        self._reader = reader
        self._writer = writer
        self._given = 0

    @property
    def events(self) -> list[ServerEvent]:
        """All events so far, those that `next_event` returned and those that came with them."""
        return self._parser.events

    @property
    def comments(self) -> list[str]:
        """All comments so far."""
        return self._parser.comments

    @property
    def retry(self) -> int | None:
        """What a `retry:` line said."""
        return self._parser.retry

    @property
    def raw_events(self) -> bytes:
        """The bytes of all complete events, comments left out."""
        return b"".join(event.raw for event in self.events)

    @property
    def last_id(self) -> int:
        """The id a client would send as `Last-Event-ID`; 0 if there is none."""
        return (self.events[-1].id or 0) if self.events else 0

    @property
    def last_event_id(self) -> str:
        """The last `id:` as it came, which is what an EventSource sends back."""
        return self.events[-1].raw.decode().rpartition("id: ")[2].strip()

    @property
    def stream_id(self) -> str:
        """What the server calls the stream."""
        return self.headers["x-stream-id"]

    def json(self) -> Any:
        """The body of an answer that is no stream."""
        return json.loads(self.body)

    async def next_event(self) -> ServerEvent:
        """The next event. Raises `EndOfStream`."""
        async with asyncio.timeout(PATIENCE):  # heartbeats would keep it waiting for ever
            while self._given == len(self.events):
                await self._more()
        self._given += 1
        return self.events[self._given - 1]

    async def read_to_end(self) -> list[ServerEvent]:
        """All events, once the body has ended cleanly. Raises `BadStream` if it is cut."""
        try:
            async with asyncio.timeout(2 * PATIENCE):
                while True:
                    await self._more()
        except EndOfStream:
            if not self.complete:
                raise BadStream(f"cut after {self.body[-200:]!r}") from None
            return self.events

    async def read_bytes(self, count: int) -> bytes:
        """The first *count* bytes of the body, or all there are; what came beyond is dropped.

        `events` then holds what a client has that was cut there. The answer can't be read further.
        """
        try:
            while len(self.body) < count:
                await self._more()
        except EndOfStream:
            pass
        self.body = self.body[:count]
        self._parser = EventParser()
        self._parser.feed(self.body)
        return self.body

    def cut(self) -> None:
        """Break the connection at once, as a lost network does."""
        self._writer.transport.abort()

    async def _read_head(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as exc:
            raise EndOfStream("no response") from exc
        status, *lines = head.decode("latin-1").split("\r\n")[:-2]
        self.status = int(status.split(" ")[1])
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()
        if self._method == "HEAD" or self.status == 204:
            self.complete = True
        elif "content-length" in self.headers:
            async with asyncio.timeout(PATIENCE):
                self.body = await self._reader.readexactly(int(self.headers["content-length"]))
            self.complete = True

    async def _more(self) -> None:
        """One more chunk, as the server wrote it."""
        if self.complete:
            raise EndOfStream
        try:
            async with asyncio.timeout(PATIENCE):
                size = int(await self._reader.readuntil(b"\r\n"), 16)
                chunk = (await self._reader.readexactly(size + 2))[:-2]
        except (asyncio.IncompleteReadError, ConnectionError) as exc:
            raise EndOfStream("cut") from exc
        if not chunk:
            self.complete = True
            raise EndOfStream
        self.chunks.append(chunk)
        self.body += chunk
        self._parser.feed(chunk)


class Client:
    """One user of the service at a loopback *port*; every request has a connection of its own."""

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self._token = token

    @asynccontextmanager
    async def ask(
        self,
        message: str = "hi",
        *,
        key: str | None = None,
        after: int | str | None = None,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> AsyncIterator[Answer]:
        """POST *message*; *fields* are further ones of the body, *key* is the `Idempotency-Key`."""
        body = json.dumps({"message": message, **fields}).encode()
        more = dict(headers or {})
        if key is not None:
            more["idempotency-key"] = key
        if after is not None:
            more["last-event-id"] = str(after)
        async with self.request("POST", "/api/v1/chat", body=body, headers=more) as answer:
            yield answer

    @asynccontextmanager
    async def resume(self, stream_id: str, after: int | str | None = None) -> AsyncIterator[Answer]:
        """GET the rest of a stream, after event *after*."""
        headers = {} if after is None else {"last-event-id": str(after)}
        path = f"/api/v1/chat/{stream_id}"
        async with self.request("GET", path, headers=headers) as answer:
            yield answer

    async def stop(self, stream_id: str) -> Answer:
        """DELETE a stream."""
        async with self.request("DELETE", f"/api/v1/chat/{stream_id}") as answer:
            return answer

    @asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Answer]:
        """Send a request; the answer's head is there when the block begins.

        The connection is broken when the block ends, whatever was read of it by then.
        """
        lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1"]
        lines.append(f"authorization: Bearer {self._token}")
        if body is not None:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(head + (body or b""))
            answer = Answer(reader, writer, method)
            await answer._read_head()
            yield answer
        finally:
            writer.transport.abort()
