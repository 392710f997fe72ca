"""Ways a provider answers, and fails to: scripts for an `Upstream`."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Mapping

from dialects import anthropic_events
from upstream import SSE, Reply, Script, sends


def anthropic(*texts: str, stop_reason: str | None = "end_turn") -> Script:
    """A message that says *texts*, each event in a chunk of its own."""
    return sends(anthropic_events(*texts, stop_reason=stop_reason))


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
