"""Time to first token, one question after the other, while 1, 100 and 500 streams are open."""

from __future__ import annotations

from collections import defaultdict

from bench.processes import bench
from bench.requests import script
from bench.table import p50, p99, show, spread

OPEN = (1, 100, 500)
RATE = 10  # tokens per second of each stream that is open besides
ONE = script(rate=1)


def run(rounds: int = 3, questions: int = 100, pause: float = 0.01) -> None:
    """Ask the floor, the service and the naive peer in turn, *rounds* times.

    *pause* is in seconds, from one answer to the next question; without one, everybody's caches are warm.
    """
    taken: dict[tuple[int, str], list[float]] = defaultdict(list)
    with bench() as start:
        upstream = start.upstream()
        servers = [upstream, start.service(upstream), start.naive(upstream)]
        load = start.load()
        for server in servers:
            load("probe", target=server.target, count=20, script=ONE, gap=0.0)
        for _ in range(rounds):
            for streams in OPEN:
                for server in servers:
                    target, endless = server.target, script(rate=RATE, tokens=1_000_000)
                    server.settle()
                    # One stream open is the question itself.
                    load("open", target=target, count=streams - 1, script=endless)
                    probed = load("probe", target=target, count=questions, script=ONE, gap=pause)
                    load("close")
                    taken[streams, target.kind] += probed["first_token"]
    rows = []
    for (streams, kind), values in taken.items():
        floor = taken[streams, "floor"]
        over = f"{(p50(values) - p50(floor)) * 1e3:.2f} / {(p99(values) - p99(floor)) * 1e3:.2f}"
        rows.append((str(streams), kind, spread(values), "" if kind == "floor" else over))
    show(
        f"Time to first token, ms p50 / p99 of {rounds} interleaved rounds of {questions};"
        f" other streams at {RATE} tokens/s each",
        ("streams open", "", "ms", "over the floor"),
        rows,
    )
