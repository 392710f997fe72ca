"""Connects: a thousand at once, health checks in a row, and the start of the process."""

from __future__ import annotations

import http.client
import subprocess
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.processes import ROOT, bench, environment, free_port, service_command, stop
from bench.requests import Target, script
from bench.table import p50, p99, show


def run(rounds: int = 3, connects: int = 1_000, seconds: float = 4.0) -> None:
    """Measure the service *rounds* times."""
    bursts: list[list[float]] = []
    service_cpu: list[float] = []
    client_cpu: list[float] = []
    per_cpu_second: list[float] = []
    with bench() as start:
        service, load = start.silent_service(), start.load()
        ping = Target("ping", service.target.port)
        load("burst", target=service.target, count=20, script=script())
        load("close")
        for _ in range(rounds):
            service.settle()
            before = service.used()
            job = load("burst", target=service.target, count=connects, script=script())
            service_cpu.append(service.used().cpu - before.cpu)
            bursts.append(job["first_byte"])
            client_cpu.append(job["cpu"])
            load("close")
            service.settle()
            before = service.used()
            answered = load("hammer", target=ping, width=16, duration=seconds)["answered"]
            per_cpu_second.append(answered / (service.used().cpu - before.cpu))
    starts = [_start() for _ in range(rounds)]
    show(
        f"Connects, median of {rounds} rounds",
        ("", "measured"),
        [
            (
                f"{connects} connects at once, ms to first byte p50 / p99",
                f"{median(map(p50, bursts)) * 1e3:.0f} / {median(map(p99, bursts)) * 1e3:.0f}",
            ),
            ("CPU of the service meanwhile, ms", f"{median(service_cpu) * 1e3:.0f}"),
            ("CPU of the client, ms", f"{median(client_cpu) * 1e3:.0f}"),
            ("ping, requests per CPU second", f"{median(per_cpu_second):.0f}"),
            ("start of `python app.py` to its first answer, s", f"{median(starts):.2f}"),
        ],
    )


def _start() -> float:
    """Seconds from starting the process to its first answer."""
    port = free_port()
    with TemporaryDirectory(prefix="bench-") as folder:
        command, env = service_command(port, Path(folder), {}, None)
        began = time.perf_counter()
        child = subprocess.Popen(command, cwd=ROOT, env=environment(env), stdout=subprocess.DEVNULL)
        try:
            while time.perf_counter() < began + 30.0:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
                try:
                    connection.request("GET", "/api/v1/auth/ping")
                    if connection.getresponse().status == 200:
                        return time.perf_counter() - began
                except OSError:
                    time.sleep(0.005)
                finally:
                    connection.close()
        finally:
            stop(child)
    raise RuntimeError("the service did not answer")
