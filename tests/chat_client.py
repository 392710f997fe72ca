"""A client of the service for tests: whole answers, and answers read frame by frame."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from patience import PATIENCE

from sanic_server import SanicServer
from services.bootstrap import Services

CHAT = "/api/v1/chat"


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """What the one JSON error shape holds."""
        body = self.json
        assert set(body) == {"error"}
        return dict(body["error"])


class Stream:
    """An answer that is being read."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self._buffer = b""

    async def next(self) -> bytes:
        """The next frame or comment, with its blank line; empty at the end."""
        while b"\n\n" not in self._buffer:
            data = await self.response.content.readany()
            if not data:
                rest, self._buffer = self._buffer, b""
                return rest
            self._buffer += data
        frame, _, self._buffer = self._buffer.partition(b"\n\n")
        return frame + b"\n\n"

    async def next_event(self) -> bytes:
        """The next frame that is no comment."""
        while (frame := await self.next()).startswith(b":"):
            pass
        return frame

    async def rest(self) -> bytes:
        """Everything up to the end."""
        rest = self._buffer + await self.response.content.read()
        self._buffer = b""
        return rest


class ChatClient:
    """Talks to *server* over loopback, with *headers* on every request."""

    def __init__(
        self, session: aiohttp.ClientSession, server: SanicServer, headers: Mapping[str, str]
    ) -> None:
        self._session = session
        self.port = server.port
        self.services: Services = server.app.ctx.services
        self._base = server.url()
        self._headers = dict(headers)

    async def send(self, method: str, path: str, **options: Any) -> Reply:
        """One request, its whole response."""
        headers = self._headers | options.pop("headers", {})
        async with self._session.request(
            method, self._base + path, headers=headers, **options
        ) as response:
            return Reply(response.status, response.headers, await response.read())

    async def ask(self, message: str, *, headers: Mapping[str, str] = {}, **fields: Any) -> Reply:
        """A whole answer to *message*."""
        return await self.send(
            "POST", CHAT, json={"message": message, **fields}, headers=dict(headers)
        )

    @asynccontextmanager
    async def stream(
        self, message: str, *, headers: Mapping[str, str] = {}, **fields: Any
    ) -> AsyncIterator[Stream]:
        """An answer to read frame by frame; leaving the block hangs up."""
        async with self._session.post(
            self._base + CHAT,
            json={"message": message, **fields},
            headers=self._headers | dict(headers),
        ) as response:
            try:
                yield Stream(response)
            finally:
                response.close()


async def raw_exchange(port: int, data: bytes, *, patience: float = PATIENCE) -> bytes:
    """Everything the server sends after *data*, until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        async with asyncio.timeout(patience):
            return await reader.read()
    finally:
        writer.close()


def texts(body: bytes) -> str:
    """The text of all `token` events in *body*."""
    parts = []
    for frame in body.decode("ascii").split("\n\n"):
        lines = frame.split("\n")
        if lines[0] == "event: token":
            parts.append(json.loads(lines[1].removeprefix("data: "))["text"])
    return "".join(parts)


def events(body: bytes) -> list[tuple[str, Any]]:
    """Names and data of all events in *body*."""
    found = []
    for frame in body.decode("ascii").split("\n\n"):
        lines = frame.split("\n")
        if lines[0].startswith("event: "):
            found.append((lines[0][7:], json.loads(lines[1].removeprefix("data: "))))
    return found
