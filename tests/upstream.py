"""A provider's HTTP server on loopback that answers as it is told, to the byte, over real sockets.

    async with Upstream() as upstream:
        upstream.plays(refuses(429, headers={"retry-after": "1"}), openai("Hello", " world"))
        ...                                  # two requests to upstream.url
        assert upstream.requests[0].json["stream"] is True

A `Script` answers one request. Scripts are played in the order they were given, the last one again
and again. `await upstream.abandoned(1)` returns once a client left in the middle of an answer.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeAlias, cast

from dialects import openai_events
from patience import PATIENCE

SSE = {"content-type": "text/event-stream"}


@dataclass(frozen=True)
class Request:
    """A request as it came; header names are lower-case, `connection` counts from 1."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Upstream:
    """The server. `async with` starts it on a free port and stops it.

    With *tls* it is `localhost`, by the certificate in there.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.requests: list[Request] = []
        self.connections = 0
        self.open: set[_Connection] = set()
        self._scripts: deque[Script] = deque([openai("Hello", " world")])
        self._abandoned = 0
        self._answering: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    def plays(self, *scripts: Script) -> None:
        """Answer the next requests with *scripts*, and all later ones with the last of them."""
        self._scripts = deque(scripts)

    @property
    def origin(self) -> str:
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}" if self._tls is None else f"https://localhost:{port}"

    @property
    def url(self) -> str:
        """What a provider takes as its base URL."""
        return f"{self.origin}/v1"

    async def asked(self, count: int) -> None:
        """Wait until *count* requests have come."""
        await self._until(lambda: len(self.requests) >= count)

    async def abandoned(self, count: int = 1) -> None:
        """Wait until *count* answers have lost their client before they were complete."""
        await self._until(lambda: self._abandoned >= count)

    async def connected(self, count: int) -> None:
        """Wait until exactly *count* connections are open."""
        await self._until(lambda: len(self.open) == count)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", 0, backlog=1024, ssl=self._tls
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for connection in tuple(self.open):
            connection.transport.abort()
        await self.connected(0)
        await asyncio.gather(*self._answering, return_exceptions=True)
        await self._server.wait_closed()

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    def _next_script(self) -> Script:
        return self._scripts.popleft() if len(self._scripts) > 1 else self._scripts[0]


class Reply:
    """The answer being given to one request."""

    def __init__(self, request: Request, transport: asyncio.Transport) -> None:
        self.request = request
        self.complete = False
        self._transport = transport

    def head(self, status: int = 200, headers: Mapping[str, str] = SSE) -> None:
        """Begin a chunked answer."""
        lines = [f"HTTP/1.1 {status} Said", "transfer-encoding: chunked"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.raw("\r\n".join(lines).encode() + b"\r\n\r\n")

    def send(self, data: bytes) -> None:
        """Send *data* as one chunk."""
        if data:
            self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        """End the body as HTTP wants it; the connection can carry another request."""
        self.complete = True
        self.raw(b"0\r\n\r\n")

    def raw(self, data: bytes) -> None:
        """Send *data* as it is."""
        self._transport.write(data)

    def reset(self) -> None:
        """Break the connection (RST)."""
        self.complete = True
        self._transport.abort()

    def drop(self) -> None:
        """Close the connection (FIN), wherever the answer stands."""
        self.complete = True
        self._transport.close()


Script: TypeAlias = Callable[[Reply], Awaitable[None]]


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._received = b""
        self._reply: Reply | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one by shape only
        self._upstream.connections += 1
        self._number = self._upstream.connections
        self._upstream.open.add(self)
        self._upstream._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.open.discard(self)
        if self._reply and not self._reply.complete:
            self._upstream._abandoned += 1
        if self._task:
            self._task.cancel()
        self._upstream._changed.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v for k, _, v in (field.partition(": ") for field in fields)}
        length = int(headers.get("content-length", 0))
        if len(body) < length:
            return
        self._received = body[length:]
        method, target, _ = line.split(" ")
        request = Request(method, target, headers, body[:length], self._number)
        self._reply = Reply(request, self.transport)
        self._upstream.requests.append(request)
        self._upstream._changed.set()
        self._task = asyncio.ensure_future(self._answer(self._reply))
        self._upstream._answering.add(self._task)
        self._task.add_done_callback(self._upstream._answering.discard)

    async def _answer(self, reply: Reply) -> None:
        await self._upstream._next_script()(reply)
        if not reply.complete:
            reply.drop()


def openai(
    *texts: str, reason: str | None = "stop", usage: tuple[int, int] | None = (5, 2)
) -> Script:
    """A chat completion that says *texts*, each event in a chunk of its own."""
    return sends(openai_events(*texts, reason=reason, usage=usage))


def sends(pieces: Iterable[bytes], *, pause: float = 0.0) -> Script:
    """A complete answer of *pieces*, each a chunk; the loop runs, for *pause* seconds, in between."""

    async def script(reply: Reply) -> None:
        reply.head()
        for piece in pieces:
            reply.send(piece)
            await asyncio.sleep(pause)
        reply.end()

    return script
