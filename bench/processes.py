"""The processes of a benchmark: servers and a client as children, and what the servers use."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from bench.requests import Kind, Target

ROOT = Path(__file__).parent.parent
_PATIENCE = 60.0  # seconds that a start or a job may take


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds, user and system, of a process so far."""

    cpu: float
    at: float


class Server:
    """A child process that serves at *port*."""

    def __init__(self, child: subprocess.Popen[bytes], kind: Kind, port: int) -> None:
        self.target = Target(kind, port)
        self._process = psutil.Process(child.pid)

    def used(self) -> Used:
        """What it has used so far."""
        times = self._process.cpu_times()
        return Used(times.user + times.system, time.perf_counter())

    def settle(self) -> None:
        """Wait, 10 s at most, until it is quiet: what a measurement left behind belongs to no other."""
        quiet = 0
        for _ in range(50):
            before = self.used()
            time.sleep(0.2)
            after = self.used()
            quiet = quiet + 1 if after.cpu - before.cpu <= 0.1 * (after.at - before.at) else 0
            if quiet == 2:
                return

    def memory(self) -> int:
        """Bytes that are its own: the proportional set size."""
        return int(self._process.memory_full_info().pss)


class Load:
    """The client process."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child

    def __call__(self, do: str, **job: Any) -> dict[str, Any]:
        """Have it do a job, see `bench.load.Load`, and wait for the result."""
        if "target" in job:
            job["target"] = asdict(job["target"])
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps({"do": do, **job}).encode() + b"\n")
        self._child.stdin.flush()
        ready, _, _ = select.select([self._child.stdout], [], [], _PATIENCE)
        answer = self._child.stdout.readline() if ready else b""
        if not answer:
            raise RuntimeError(f"the load generator did not come to the end of {do}")
        result: dict[str, Any] = json.loads(answer)
        return result


class Bench:
    """Starts what a benchmark needs; everything ends with the `with` block."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._closes = folder / "closes.txt"

    def load(self) -> Load:
        """A client."""
        return Load(self._child([sys.executable, "-m", "bench.load"], pipes=True))

    def upstream(self) -> Server:
        """An upstream, which is also what the floor is measured at."""
        port = free_port()
        command = [sys.executable, "-m", "bench.upstream", "--port", str(port)]
        child = self._child([*command, "--report", str(self._closes)])
        return self._listening(child, "floor", port)

    def service(self, upstream: Server | None = None, **env: str) -> Server:
        """The service with its default settings, relaying *upstream*, or the stub if there is none."""
        port = free_port()
        command, env = service_command(
            port, self._folder, env, None if upstream is None else upstream.target.port
        )
        return self._listening(self._child(command, env=env), "service", port)

    def silent_service(self) -> Server:
        """The service with a provider that connects and then says nothing."""
        port = free_port()
        _, env = service_command(port, self._folder, {}, None)
        child = self._child([sys.executable, "-m", "bench.silent"], env=env)
        return self._listening(child, "service", port)

    def naive(self, upstream: Server) -> Server:
        """The naive peer, relaying *upstream*."""
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "bench.peers.naive:app", "--port", str(port)]
        command += ["--no-access-log", "--log-level=warning", "--ws=none", "--backlog=4096"]
        env = {"UPSTREAM_URL": f"http://127.0.0.1:{upstream.target.port}/v1"}
        return self._listening(self._child(command, env=env), "naive", port)

    def reports(self) -> Iterator[tuple[str, int, int]]:
        """What the upstream has reported: what happened, to which id, when in nanoseconds."""
        for line in self._closes.read_text().splitlines():
            what, number, at = line.split()
            yield what, int(number), int(at)

    def _child(
        self, command: list[str], *, env: Mapping[str, str] | None = None, pipes: bool = False
    ) -> subprocess.Popen[bytes]:
        # Log lines go to a file, as in production they would; tracebacks of a failed start are seen.
        output = self._folder / f"{len(list(self._folder.iterdir()))}.out"
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(env or {}),
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else output.open("wb"),
        )
        self._stack.callback(stop, child)
        return child

    def _listening(self, child: subprocess.Popen[bytes], kind: Kind, port: int) -> Server:
        wait_for(port, child)
        return Server(child, kind, port)


@contextmanager
def bench() -> Iterator[Bench]:
    """Room for the processes of one benchmark."""
    with TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        yield Bench(stack, Path(folder))


def service_command(
    port: int, folder: Path, more: Mapping[str, str], upstream: int | None
) -> tuple[list[str], dict[str, str]]:
    """The command and the environment of a service at *port* that writes to *folder* only."""
    env = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "DATABASE_URL": f"sqlite:///{folder}/{port}.db",
        "LOG_FILE": f"{folder}/{port}.log",
        **more,
    }
    if upstream is not None:
        env["OPENAI_API_KEY"] = "x"
        env["OPENAI_BASE_URL"] = f"http://127.0.0.1:{upstream}/v1"
    return [sys.executable, "app.py"], env


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """A child's environment: none of the caller's settings, only what finds its programs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | dict(more)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_for(port: int, child: subprocess.Popen[bytes]) -> None:
    """Wait until *child* takes connections at *port*."""
    end = time.perf_counter() + _PATIENCE
    while time.perf_counter() < end and child.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise RuntimeError(f"{child.args!r} did not start")


def stop(child: subprocess.Popen[bytes]) -> None:
    """End *child*: asked first, then not."""
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(5.0)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
