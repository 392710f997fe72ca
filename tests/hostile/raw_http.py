"""A client that may send anything, byte by byte, and reads responses strictly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.patience import PATIENCE

CHAT = "/api/v1/chat"
PING = b"GET /api/v1/auth/ping HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response."""

    version: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of the one JSON error shape."""
        error = json.loads(self.body)["error"]
        assert set(error) - {"details"} == {"code", "message", "request_id"}
        return str(error["code"])


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Hand *data* to the kernel."""
        self.writer.write(data)

    @asynccontextmanager
    async def dripping(self, data: bytes, pause: float) -> AsyncIterator[None]:
        """Send *data* a byte at a time while the block runs."""

        async def drip() -> None:
            for byte in data:
                self.send(bytes([byte]))
                await asyncio.sleep(pause)

        task = asyncio.create_task(drip())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def response(self) -> Response:
        """The next response, interim ones left out."""
        async with asyncio.timeout(PATIENCE):
            while True:
                head = await self.reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode("ascii").removesuffix("\r\n\r\n").split("\r\n")
                version, status, _ = first.split(" ", 2)
                if status != "100":
                    break
            headers = dict(_field(line) for line in lines)
            assert len(headers) == len(lines)
            return Response(version, int(status), headers, await self._body(headers, int(status)))

    async def closed(self) -> bytes:
        """What else comes until the server closes."""
        rest = b""
        async with asyncio.timeout(PATIENCE):
            try:
                while data := await self.reader.read(65_536):
                    rest += data
            except ConnectionResetError:
                pass
        return rest

    async def _body(self, headers: Mapping[str, str], status: int) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            assert await self.reader.readexactly(2) == b"\r\n"
            return body
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        return b"" if status == 204 else await self.reader.read()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Wire]:
    """A connection to *port*, hung up at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


async def answer_to(port: int, data: bytes) -> Response:
    """The first response to *data*."""
    async with connected(port) as wire:
        wire.send(data)
        return await wire.response()


def request(
    bearer: Mapping[str, str], body: bytes | None = None, *extra: str, version: str = "1.1",
    method: str = "POST", path: str = CHAT, **fields: Any,
) -> bytes:  # fmt: skip
    """A valid chat request with the header lines *extra*; its body is *body*, or JSON of *fields*."""
    body = json.dumps({"message": "hi", **fields}).encode() if body is None else body
    lines = [
        f"{method} {path} HTTP/{version}", "Host: x", "Content-Type: application/json",
        f"Authorization: {bearer['Authorization']}", *extra,
    ]  # fmt: skip
    framed = any(line.lower().startswith("transfer-encoding") for line in extra)
    if not framed and not any(line.lower().startswith("content-length") for line in extra):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    return name.lower(), value
