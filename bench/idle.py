"""Idle streams with heartbeats: CPU and memory of each, and how late the heartbeats are."""

from __future__ import annotations

import time

from bench.processes import Bench, Load, Server, bench
from bench.requests import script
from bench.table import show, spread

HEARTBEAT = 10.0  # seconds, the service's default
# The upstream says one word and then nothing, for longer than the default idle timeout allows.
PATIENT = {"OPENAI_IDLE_TIMEOUT_MS": "600000"}


def run(stub: int = 5_000, relaying: int = 5_000, small: int = 1_000, intervals: int = 2) -> None:
    """Hold streams open for *intervals* heartbeats: *small* and *stub* or *relaying* at a time."""
    rows = []
    for count in filter(None, (small, stub)):
        with bench() as start:
            rows.append(_measure("stub", start.silent_service(), start, count, "byte", intervals))
    for count in filter(None, (small, relaying)):
        with bench() as start:
            service = start.service(start.upstream(), **PATIENT)
            rows.append(_measure("relaying", service, start, count, "token", intervals))
    show(
        f"Idle streams, heartbeat every {HEARTBEAT:g} s, watched for {intervals * HEARTBEAT:g} s",
        (
            "",
            "streams",
            "KiB each (PSS)",
            "CPU %",
            "CPU % without",
            "heartbeats",
            "late ms p50 / p99",
            "lost",
        ),
        rows,
    )


def _measure(
    kind: str, service: Server, start: Bench, count: int, wait: str, intervals: int
) -> tuple[str, ...]:
    load, silence = start.load(), script(rate=1, hold="end")
    load("open", target=service.target, count=50, script=silence, wait=wait)  # imports, caches
    load("close")
    service.settle()
    nothing = _cpu_share(service, 3.0)
    memory = service.memory()
    _open(load, service, count, silence, wait)
    each = (service.memory() - memory) / count / 1024
    busy = _cpu_share(service, intervals * HEARTBEAT)
    time.sleep(0.5)
    beats = load("beats", interval=HEARTBEAT)
    late = beats["late"]
    load("close")
    return (
        kind,
        str(count),
        f"{each:.1f}",
        f"{busy:.2f}",
        f"{nothing:.2f}",
        str(len(late)),
        spread(late),
        str(beats["lost"]),
    )


def _open(load: Load, service: Server, count: int, message: str, wait: str) -> None:
    # In portions, so that heartbeats spread over the interval as those of real users do.
    for portion in range(0, count, 250):
        load(
            "open",
            target=service.target,
            count=min(250, count - portion),
            script=message,
            wait=wait,
        )
    time.sleep(1.0)


def _cpu_share(server: Server, seconds: float) -> float:
    """Per cent of a core that *server* takes."""
    before = server.used()
    time.sleep(seconds)
    after = server.used()
    return 100 * (after.cpu - before.cpu) / (after.at - before.at)
