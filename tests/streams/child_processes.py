"""Real processes of the service that share a Redis, a database and an upstream."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0


class Child:
    """One process, which answers at `port`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, output: Path) -> None:
        self.process = process
        self.port = port
        self._output = output

    @property
    def output(self) -> str:
        """Everything it has printed."""
        return self._output.read_text()

    def kill(self) -> None:
        """Take it away at once, with all it knows."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def metric(self, name: str) -> float:
        """The value of an unlabelled metric."""
        with urlopen(f"http://127.0.0.1:{self.port}/metrics") as response:
            lines = response.read().decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    def await_health(self) -> None:
        """Return when it answers."""
        deadline = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None, f"it ended at once:\n{self.output}"
            assert time.monotonic() < deadline, f"no answer:\n{self.output}"
            try:
                urlopen(f"http://127.0.0.1:{self.port}/api/v1/auth/ping").close()
            except OSError:
                time.sleep(0.02)
            else:
                return


@contextmanager
def children(count: int, folder: Path, variables: Mapping[str, str]) -> Iterator[list[Child]]:
    """*count* processes with *variables*; those that still run at the end are killed."""
    started: list[Child] = []
    try:
        for number in range(count):
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            environment = {
                "PATH": os.environ["PATH"],
                "HOST": "127.0.0.1",
                "PORT": str(port),
                "LOG_FILE": "none",
                **variables,
            }
            output = folder / f"child-{number}.log"
            with output.open("wb") as out:
                process = subprocess.Popen(
                    [sys.executable, "app.py"],
                    cwd=ROOT,
                    env=environment,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
            started.append(Child(process, port, output))
        for child in started:
            child.await_health()
        yield started
    finally:
        for child in started:
            child.process.kill()
            child.process.wait()
