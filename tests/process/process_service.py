"""The service as a child process, started with the Procfile's own command."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]


class Service:
    """A running child; `url` makes addresses, `output` is what it has printed."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, output: Path) -> None:
        self.process = process
        self.port = port
        self._output = output

    def url(self, path: str) -> str:
        """The address of *path*."""
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def log(self) -> Path:
        """The log file of JSON lines."""
        return self._output.parent / "api.log"

    @property
    def output(self) -> str:
        """Everything printed so far, standard error included."""
        return self._output.read_text()

    def await_health(self, patience: float = 30) -> None:
        """Return when it answers its health probe. Raises `AssertionError` after *patience* seconds."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"it ended at once:\n{self.output}")
            try:
                if httpx.get(self.url("/api/v1/auth/ping")).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.02)
        raise AssertionError(f"no healthy answer in {patience} s:\n{self.output}")

    def stop(self) -> int:
        """The exit status after a SIGTERM; everything is logged by then."""
        self.process.terminate()
        return self.wait()

    def wait(self, seconds: float = 10) -> int:
        """The exit status, when it has ended by itself."""
        return self.process.wait(seconds)


def procfile_command() -> list[str]:
    """The command of the `web` process, by this interpreter."""
    command = re.search(r"^web: exec python (.*)$", (ROOT / "Procfile").read_text(), re.MULTILINE)
    assert command is not None
    return [sys.executable, *shlex.split(command[1])]


@contextmanager
def started(
    folder: Path, variables: Mapping[str, str] = {}, *, healthy: bool = True
) -> Iterator[Service]:
    """A child in a clean environment, killed at the end if need be; unless not *healthy*, it answers."""
    port = _free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "PORT": str(port),
        "HOST": "127.0.0.1",
        "DATABASE_URL": f"sqlite:///{folder}/chat.db",
        "LOG_FILE": str(folder / "api.log"),
        **variables,
    }
    output = folder / f"output-{port}.txt"
    with output.open("wb") as out:
        process = subprocess.Popen(
            procfile_command(), cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    service = Service(process, port, output)
    try:
        if healthy:
            service.await_health()
        yield service
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
