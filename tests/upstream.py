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
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeAlias, cast

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


# What OpenAI says


def chunk(
    content: str | None = None, *, reason: str | None = None, model: str = "gpt-4o-mini-2024-07-18"
) -> bytes:
    """One event of a chat completion, with every field that OpenAI sends."""
    delta = {} if content is None else {"content": content}
    return data(
        {
            "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
            "object": "chat.completion.chunk",
            "created": 1741569952,
            "model": model,
            "service_tier": "default",
            "system_fingerprint": "fp_06737a9306",
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}],
            "usage": None,
        }
    )


def role_chunk() -> bytes:
    """The first event of a chat completion, which says nothing yet."""
    return data(
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "", "refusal": None}}]}
    )


def usage_chunk(tokens_in: int, tokens_out: int, *, cached: int = 0, reasoning: int = 0) -> bytes:
    """The event before `[DONE]` that tells the totals."""
    return data(
        {
            "model": "gpt-4o-mini-2024-07-18",
            "choices": [],
            "usage": {
                "prompt_tokens": tokens_in,
                "completion_tokens": tokens_out,
                "total_tokens": tokens_in + tokens_out,
                "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
            },
        }
    )


DONE = b"data: [DONE]\n\n"


def openai_events(
    *texts: str, reason: str | None = "stop", usage: tuple[int, int] | None = (5, 2)
) -> list[bytes]:
    """All events of a chat completion that says *texts*."""
    events = [role_chunk(), *map(chunk, texts)]
    if reason is not None:
        events.append(chunk(reason=reason))
    if usage is not None:
        events.append(usage_chunk(*usage))
    return [*events, DONE]


def openai(
    *texts: str, reason: str | None = "stop", usage: tuple[int, int] | None = (5, 2)
) -> Script:
    """A chat completion that says *texts*, each event in a chunk of its own."""
    return sends(openai_events(*texts, reason=reason, usage=usage))


# What Anthropic says


def anthropic_event(type_: str, **fields: object) -> bytes:
    """One named event of a message."""
    return f"event: {type_}\n".encode() + data({"type": type_, **fields})


def anthropic_events(
    *texts: str, stop_reason: str | None = "end_turn", usage: tuple[int, int] = (5, 2)
) -> list[bytes]:
    """All events of a message that says *texts*."""
    tokens_in, tokens_out = usage
    events = [
        anthropic_event(
            "message_start",
            message={
                "id": "msg_01EcyWo6m4hyW8KHs2y2pei5",
                "type": "message",
                "role": "assistant",
                "model": "claude-haiku-4-5-20251001",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {
                    "input_tokens": tokens_in,
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 0,
                    "output_tokens": 1,
                    "service_tier": "standard",
                },
            },
        ),
        anthropic_event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        anthropic_event("ping"),
        *(anthropic_delta(text) for text in texts),
        anthropic_event("content_block_stop", index=0),
    ]
    if stop_reason is not None:
        events.append(
            anthropic_event(
                "message_delta",
                delta={"stop_reason": stop_reason, "stop_sequence": None},
                usage={"output_tokens": tokens_out},
            )
        )
    return [*events, anthropic_event("message_stop")]


def anthropic_delta(text: str) -> bytes:
    """One event that says *text*."""
    return anthropic_event(
        "content_block_delta", index=0, delta={"type": "text_delta", "text": text}
    )


def anthropic(*texts: str, stop_reason: str | None = "end_turn") -> Script:
    """A message that says *texts*, each event in a chunk of its own."""
    return sends(anthropic_events(*texts, stop_reason=stop_reason))


# Ways to say it


def data(value: object) -> bytes:
    """*value* as one event."""
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def sends(pieces: Iterable[bytes], *, pause: float = 0.0) -> Script:
    """A complete answer of *pieces*, each a chunk; the loop runs, for *pause* seconds, in between."""

    async def script(reply: Reply) -> None:
        reply.head()
        for piece in pieces:
            reply.send(piece)
            await asyncio.sleep(pause)
        reply.end()

    return script


def sends_at_once(*pieces: bytes) -> Script:
    """Headers and the whole body in a single write."""

    async def script(reply: Reply) -> None:
        body = b"".join(pieces)
        reply.complete = True
        reply.raw(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )

    return script


def drips(body: bytes) -> Script:
    """A complete answer, one byte at a time."""
    return sends([body[i : i + 1] for i in range(len(body))])


def gzips(body: bytes, *, size: int = 7) -> Script:
    """A complete answer that is compressed although nobody asked, in chunks of *size* bytes."""
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(body) + packer.flush()

    async def script(reply: Reply) -> None:
        reply.head(headers={**SSE, "content-encoding": "gzip"})
        for start in range(0, len(packed), size):
            reply.send(packed[start : start + size])
            await asyncio.sleep(0)
        reply.end()

    return script


def refuses(
    status: int, *, error: object = None, headers: Mapping[str, str] | None = None
) -> Script:
    """An error answer; *error* is what stands under `error` in its JSON."""

    async def script(reply: Reply) -> None:
        reply.head(status, {"content-type": "application/json", **(headers or {})})
        body = json.dumps({"error": error or {"type": "test", "code": None, "param": None}})
        reply.send(body[:5].encode())
        await asyncio.sleep(0)
        reply.send(body[5:].encode())
        reply.end()

    return script


def answers(body: bytes, *, headers: Mapping[str, str]) -> Script:
    """A 200 with *body* and *headers*, which may be no event stream."""

    async def script(reply: Reply) -> None:
        reply.head(200, headers)
        reply.send(body[:5])
        await asyncio.sleep(0)
        reply.send(body[5:])
        reply.end()

    return script


def hangs(*pieces: bytes, headers: bool = True) -> Script:
    """Headers (unless told otherwise) and *pieces*, then nothing until the client leaves."""

    async def script(reply: Reply) -> None:
        if headers:
            reply.head()
        for piece in pieces:
            reply.send(piece)
        await asyncio.Event().wait()

    return script


def resets(*pieces: bytes) -> Script:
    """*pieces*, then a broken connection."""

    async def script(reply: Reply) -> None:
        reply.head()
        for piece in pieces:
            reply.send(piece)
        await asyncio.sleep(0.02)  # what was sent must be read before the reset discards it
        reply.reset()

    return script


def drops(*pieces: bytes, headers: bool = True) -> Script:
    """*pieces*, then a connection closed in the middle of a chunked body."""

    async def script(reply: Reply) -> None:
        if headers:
            reply.head()
        for piece in pieces:
            reply.send(piece)
        reply.drop()

    return script


def closes_when_reused(script: Script, *, after: float = 0.0) -> Script:
    """*script* on a new connection; a second request on one meets its end, *after* seconds, without a byte."""
    served: set[int] = set()

    async def once(reply: Reply) -> None:
        if reply.request.connection in served:
            await asyncio.sleep(after)
            reply.drop()
        else:
            served.add(reply.request.connection)
            await script(reply)

    return once


def babbles(*pieces: bytes) -> Script:
    """*pieces*, then something that is no chunk, and nothing more."""

    async def script(reply: Reply) -> None:
        reply.head()
        for piece in pieces:
            reply.send(piece)
        await asyncio.sleep(0.02)  # what was sent must be read before the connection is given up
        reply.raw(b"not a chunk\r\n")
        await asyncio.Event().wait()

    return script


def repeats(piece: bytes, *, pause: float = 0.01) -> Script:
    """*piece* for ever, every *pause* seconds."""

    async def script(reply: Reply) -> None:
        reply.head()
        while True:
            reply.send(piece)
            await asyncio.sleep(pause)

    return script


def lingers(*pieces: bytes, after: asyncio.Event) -> Script:
    """*pieces* at once, but the end of the body only *after* an event."""

    async def script(reply: Reply) -> None:
        reply.head()
        for piece in pieces:
            reply.send(piece)
        await after.wait()
        reply.end()

    return script
