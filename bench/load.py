"""A cheap client that opens streams and measures them, told what to do line by line.

`python -m bench.load` reads jobs as JSON lines, and answers each with one line. Streams stay open
between jobs, so that the caller can look at the server's CPU and memory meanwhile. The jobs are the
methods of `Load`; times are seconds.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, cast

import uvloop

from bench.burst import burst
from bench.requests import FEW, USERS, Target, mint_tokens, request

_END = b"0\r\n\r\n"
_BEAT = b": heartbeat "


class Connection(asyncio.Protocol):
    """One connection to a server, used for one request at a time."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.asked_at = 0.0
        self.first_byte_at = 0.0
        self.first_token_at = 0.0
        self.tokens = 0
        self.beats: list[float] = []
        self.lost = False
        self.closing = False
        self._waiting: asyncio.Future[None] | None = None
        self._until: Callable[[], bool] = bool
        self._ended = False
        self._tail = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass

    def ask(self, data: bytes) -> None:
        """Send a request; forget the one before."""
        self.first_byte_at = self.first_token_at = 0.0
        self.tokens = 0
        self.beats.clear()
        self._ended = False
        self._tail = b""
        self.asked_at = time.perf_counter()
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Note what came, and when."""
        now = time.perf_counter()
        if not self.first_byte_at:
            self.first_byte_at = now
            self.closing = b"onnection: close" in data
        # A marker may be torn between two reads; the tail is too short to count one twice.
        marker = self.target.token
        text = self._tail + data
        self._tail = text[1 - len(marker) :]
        if found := text.count(marker):
            self.tokens += found
            if not self.first_token_at:
                self.first_token_at = now
        if _BEAT in data:
            self.beats.append(now)
        if data.endswith(_END) or (not self.target.streams and b"\r\n\r\n" in data):
            self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the wait, if there is one."""
        self.lost = True
        self._wake()

    @property
    def ended(self) -> bool:
        """Whether the answer is complete."""
        return self._ended

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition*, looked at after every read. Raises `ConnectionError`."""
        if not self.lost and not condition():
            self._until = condition
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        if self.lost and not condition():
            raise ConnectionError("the server closed the connection")

    def _wake(self) -> None:
        if self._waiting is not None and (self.lost or self._until()):
            waiting, self._waiting = self._waiting, None
            if not waiting.done():
                waiting.set_result(None)


class Load:
    """The jobs, and the streams that are open between them."""

    def __init__(self) -> None:
        self._open: list[Connection] = []
        self._held: list[socket.socket] = []
        self._user = 0

    async def open(
        self, target: Target, count: int, script: str, wait: str = "token", width: int = 200
    ) -> dict[str, Any]:
        """Open *count* more streams, at most *width* at a time; return each one's time to first byte."""
        gate = asyncio.Semaphore(width)

        async def one() -> float:
            async with gate:
                data = self._request(target, script)
                began = time.perf_counter()
                connection = await _connect(target)
                self._open.append(connection)
                connection.ask(data)
                await connection.until(
                    lambda: bool(
                        connection.first_token_at if wait == "token" else connection.first_byte_at
                    )
                )
                return connection.first_byte_at - began

        return {"first_byte": await asyncio.gather(*(one() for _ in range(count)))}

    async def burst(self, target: Target, count: int, script: str) -> dict[str, Any]:
        """Open *count* more streams all at once; time to first byte, and the CPU that this took here."""
        done = burst(target.port, [self._request(target, script) for _ in range(count)])
        self._held += done.sockets
        return {"first_byte": done.first_byte, "cpu": done.cpu}

    async def tokens(self) -> dict[str, Any]:
        """How many tokens all open streams have had, and how many streams were lost."""
        return {
            "tokens": sum(connection.tokens for connection in self._open),
            "lost": sum(connection.lost for connection in self._open),
        }

    async def finish(self) -> dict[str, Any]:
        """Wait until every open stream has ended."""
        await asyncio.gather(*(each.until(lambda each=each: each.ended) for each in self._open))  # type: ignore[misc]
        return await self.tokens()

    async def beats(self, interval: float) -> dict[str, Any]:
        """How late every heartbeat was, seconds; negative is early."""
        late = [
            at - stream.first_byte_at - number * interval
            for stream in self._open
            for number, at in enumerate(stream.beats, 1)
        ]
        return {"late": late, **await self.tokens()}

    async def close(self) -> dict[str, Any]:
        """Close what is open."""
        for sock in self._held:
            sock.close()
        self._held.clear()
        for connection in self._open:
            connection.transport.abort()
        await asyncio.gather(
            *(each.until(lambda: False) for each in self._open), return_exceptions=True
        )
        self._open.clear()
        return {}

    async def probe(self, target: Target, count: int, script: str, gap: float) -> dict[str, Any]:
        """Ask *count* times, one after the other over kept connections; time to first token of each."""
        taken = []
        connection = await _connect(target)
        for _ in range(count):
            if connection.lost or connection.closing:
                connection.transport.abort()
                connection = await _connect(target)
            await asyncio.sleep(gap)
            connection.ask(self._request(target, script, users=FEW))
            await connection.until(lambda asked=connection: asked.ended)  # type: ignore[misc]
            taken.append(connection.first_token_at - connection.asked_at)
        connection.transport.abort()
        return {"first_token": taken}

    async def leave(
        self, target: Target, first: int, count: int, script: str, after: int
    ) -> dict[str, Any]:
        """Ask *count* times, and hang up after so many tokens; when, in the monotonic clock's nanoseconds.

        `{id}` in *script* becomes *first*, *first* + 1, and so on. With *after* 0 it hangs up after 30 ms.
        """
        left = {}
        for number in range(first, first + count):
            connection = await _connect(target)
            connection.ask(self._request(target, script.format(id=number)))
            if after:
                await connection.until(lambda asked=connection: asked.tokens >= after)  # type: ignore[misc]
            else:
                await asyncio.sleep(0.03)
            left[number] = time.monotonic_ns()
            connection.transport.close()
            await asyncio.sleep(0.005)
        return {"left": left}

    async def hammer(self, target: Target, width: int, duration: float) -> dict[str, Any]:
        """Repeat requests over *width* kept connections for *duration* seconds; how many were answered."""
        end = time.perf_counter() + duration

        async def one() -> int:
            answered = 0
            connection = await _connect(target)
            while time.perf_counter() < end:
                if connection.lost or connection.closing:
                    connection.transport.abort()
                    connection = await _connect(target)
                connection.ask(target.ping)
                await connection.until(lambda asked=connection: asked.ended)  # type: ignore[misc]
                answered += 1
            connection.transport.abort()
            return answered

        return {"answered": sum(await asyncio.gather(*(one() for _ in range(width))))}

    def _request(self, target: Target, script: str, *, users: int = USERS) -> bytes:
        # Requests spread over many users, so that no user's limit is reached.
        self._user += 1
        return request(target, script, user=self._user % users)


async def _connect(target: Target) -> Connection:
    loop = asyncio.get_running_loop()
    # A socket of our own: resolving the address a thousand times would be what is measured.
    sock = socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", target.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _, protocol = await loop.create_connection(lambda: Connection(target), sock=sock)
    return protocol


async def _serve() -> None:
    mint_tokens()
    load, loop = Load(), asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        job = json.loads(line)
        if "target" in job:
            job["target"] = Target(**job["target"])
        result = await getattr(load, job.pop("do"))(**job)
        print(json.dumps(result), flush=True)


def main() -> None:
    """Serve jobs until standard input ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(_serve())


if __name__ == "__main__":
    main()
