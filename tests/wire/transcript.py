"""Transcripts: what a client sent and what came back, as a text file that a person can read.

Request lines begin with `> `, the lines of a response's head with `< `. What follows the head is the
body, byte for byte (without HTTP's chunks), and one line end that is not part of it. What differs
from run to run has a name in angle brackets instead.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from patience import PATIENCE

# What no two runs have in common: its pattern, and what stands for it.
VARIABLE = (
    (rb"req_[0-9a-f]{16}", b"<request id>"),
    (rb"str_[\w-]{20}", b"<stream id>"),
    (rb"(?<=: heartbeat )[0-9]{13}", b"<epoch ms>"),
    (rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?\+00:00", b"<moment>"),
    (rb"(?<=retry-after: )[0-9]+", b"<seconds>"),
)
# Sanic sends it where its classes are left as they are, as they must be with many apps in a process.
NOT_OURS = re.compile(rb"alt-svc: \r\n")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request as the file has it, and the response as the file should have it."""

    request: str
    response: bytes = b""

    def text(self) -> bytes:
        """This exchange as it is in a file."""
        sent = "".join(f"> {line}\n" if line else ">\n" for line in self.request.split("\n"))
        return sent.encode() + self.response


def parse(text: bytes) -> list[Exchange]:
    """The exchanges of a file."""
    found = re.findall(rb"((?:^>[^\n]*\n)+)((?:(?!^>)[^\n]*\n)*)", text, re.MULTILINE)
    return [
        Exchange(re.sub(r"^> ?", "", sent.decode(), flags=re.MULTILINE).removesuffix("\n"), got)
        for sent, got in found
    ]


def normalised(raw: bytes) -> bytes:
    """A response as it is in a file."""
    head, _, body = raw.partition(b"\r\n\r\n")
    head = NOT_OURS.sub(b"", head + b"\r\n")
    lines = b"".join(b"< " + line + b"\n" for line in head.rstrip(b"\r\n").split(b"\r\n"))
    text = lines + b"<\n" + body + b"\n"
    for pattern, name in VARIABLE:
        text = re.sub(pattern, name, text)
    return text


class Connection:
    """One connection to the service, on which one request is sent."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, head_only: bool
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._head_only = head_only
        self._received = b""

    @classmethod
    async def sending(cls, port: int, request: str) -> Connection:
        """A connection on which *request* is under way; a body gets its length."""
        head, separator, body = request.partition("\n\n")
        lines = [head.replace("\n", "\r\n")]
        if separator:
            lines.append(f"Content-Length: {len(body.encode())}")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(("\r\n".join(lines) + f"\r\n\r\n{body}").encode())
        return cls(reader, writer, head_only=request.startswith("HEAD"))

    async def until(self, data: bytes) -> bytes:
        """Everything received, once *data* has come."""
        async with asyncio.timeout(PATIENCE):
            while data not in self._received:
                if not (more := await self._reader.read(65_536)):
                    break
                self._received += more
        return self._received

    async def response(self) -> bytes:
        """The whole response, its chunks joined; the connection is closed then."""
        head = (await self.until(b"\r\n\r\n")).partition(b"\r\n\r\n")[0]
        if self._head_only:
            body = b""
        elif b"transfer-encoding: chunked" in head:
            raw = await self.until(b"\r\n0\r\n\r\n")
            body = _joined(raw[len(head) + 4 :])
        else:
            length = re.search(rb"content-length: ([0-9]+)", head)
            wanted = int(length[1]) if length else 0
            async with asyncio.timeout(PATIENCE):
                while len(self._received) < len(head) + 4 + wanted:
                    self._received += await self._reader.read(65_536)
            body = self._received[len(head) + 4 :]
            assert len(body) == wanted
        self._writer.close()
        await self._writer.wait_closed()
        return head + b"\r\n\r\n" + body


def _joined(chunks: bytes) -> bytes:
    """The data of *chunks*, whose framing must be exact."""
    body = b""
    while True:
        size, _, rest = chunks.partition(b"\r\n")
        length = int(size, 16)
        assert rest[length : length + 2] == b"\r\n"
        if length == 0:
            assert rest == b"\r\n"
            return body
        body, chunks = body + rest[:length], rest[length + 2 :]
