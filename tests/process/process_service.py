"""The service as a child process, started with the Procfile's own command."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from tests.patience import PATIENCE, await_true

ROOT = Path(__file__).parents[2]


class Service:
    """A running child; `url` makes addresses, `output` is what it has printed."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @cached_property
    def port(self) -> int:
        """Where it listens, once it has said so. Raises `AssertionError` if it ends or never does."""
        await_true(
            lambda: self._said_port() or self.process.poll() is not None, lambda: self.output
        )
        port = self._said_port()
        assert port is not None, f"it ended at once:\n{self.output}"
        return int(port)

    def url(self, path: str) -> str:
        """The address of *path*."""
        return f"http://127.0.0.1:{self.port}{path}"

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The whole response to a request on a connection of its own; *options* are those of httpx."""
        return httpx.request(method, self.url(path), **{"timeout": PATIENCE, **options})

    @property
    def log(self) -> Path:
        """The log file of JSON lines."""
        return self._output.parent / "api.log"

    @property
    def output(self) -> str:
        """Everything printed so far, standard error included."""
        return self._output.read_text()

    def metric(self, name: str) -> float:
        """The value of an unlabelled metric."""
        lines = self.request("GET", "/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    def await_health(self) -> None:
        """Return when it answers its health probe. Raises `AssertionError` if it never does."""
        assert self.request("GET", "/api/v1/auth/ping").status_code == 200

    def kill(self) -> None:
        """Take it away at once, with all it knows."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """The exit status after a SIGTERM; everything is logged by then."""
        self.process.terminate()
        return self.wait()

    def wait(self, seconds: float = PATIENCE) -> int:
        """The exit status, when it has ended by itself."""
        return self.process.wait(seconds)

    def _said_port(self) -> str | None:
        # As a line of text or of JSON, both of which end with a line end once they are whole.
        found = re.search(r"\bReady\b.*?\bport\W+(\d+).*\n", self.output)
        return found and found[1]


def procfile_command() -> list[str]:
    """The command of the `web` process, by this interpreter."""
    command = re.search(r"^web: exec python (.*)$", (ROOT / "Procfile").read_text(), re.MULTILINE)
    assert command is not None
    return [sys.executable, *shlex.split(command[1])]


@contextmanager
def started(
    folder: Path, variables: Mapping[str, str] = {}, *, healthy: bool = True, root: Path = ROOT
) -> Iterator[Service]:
    """A child in a clean environment, killed at the end if need be; unless not *healthy*, it answers.

    It runs from the files in *root*.
    """
    environment = {
        "PATH": os.environ["PATH"],
        "PORT": "0",
        "HOST": "127.0.0.1",
        "DATABASE_URL": f"sqlite:///{folder}/chat.db",
        "LOG_FILE": str(folder / "api.log"),
        **variables,
    }
    output = folder / f"output-{len(list(folder.glob('output-*.txt')))}.txt"
    with output.open("wb") as out:
        process = subprocess.Popen(
            procfile_command(), cwd=root, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    service = Service(process, output)
    try:
        if healthy:
            service.await_health()
        yield service
    finally:
        service.kill()
