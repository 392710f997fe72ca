"""Abort: from the client's hanging up to the close of the upstream's connection, phase by phase."""

from __future__ import annotations

import time
from collections import defaultdict

from bench.processes import Bench, bench
from bench.requests import script
from bench.table import show, spread

PHASES = {
    "before headers": (script(number="{id}", hold="headers"), 0),
    "before the first token": (script(number="{id}", hold="first"), 0),
    "mid-stream": (script(number="{id}", rate=50, tokens=1_000_000), 3),
}


def run(rounds: int = 3, times: int = 40) -> None:
    """Hang up on the floor, the service and the naive peer in turn, *rounds* times."""
    left: dict[int, int] = {}
    which: dict[tuple[str, str], list[int]] = defaultdict(list)
    with bench() as start:
        upstream = start.upstream()
        servers = [upstream, start.service(upstream), start.naive(upstream)]
        load = start.load()
        for server in servers:
            load("probe", target=server.target, count=20, script=script(rate=1), gap=0.0)
        for _ in range(rounds):
            for phase, (message, after) in PHASES.items():
                for server in servers:
                    server.settle()
                    first = len(left) + 1
                    job = load(
                        "leave",
                        target=server.target,
                        first=first,
                        count=times,
                        script=message,
                        after=after,
                    )
                    left |= {int(number): at for number, at in job["left"].items()}
                    which[phase, server.target.kind] += range(first, first + times)
        closed = _closed(start, len(left))
    rows = []
    for (phase, kind), numbers in which.items():
        seen = [(closed[number] - left[number]) / 1e9 for number in numbers if number in closed]
        rows.append((phase, kind, spread(seen) if seen else "-", f"{len(seen)} of {len(numbers)}"))
    show(
        f"Client gone to upstream closed, {rounds} interleaved rounds of {times}",
        ("phase", "", "ms p50 / p99", "closed"),
        rows,
    )


def _closed(start: Bench, expected: int) -> dict[int, int]:
    """When each connection was closed, by id; those that stay open for 5 s are missing."""
    end = time.perf_counter() + 5.0
    while True:
        asked, closed = set(), {}
        for what, number, at in start.reports():
            if what == "asked":
                asked.add(number)
            else:
                closed[number] = at
        if len(closed) == expected or time.perf_counter() > end:
            if len(asked) != expected:
                raise RuntimeError(f"the upstream was asked {len(asked)} times, not {expected}")
            return closed
        time.sleep(0.05)
