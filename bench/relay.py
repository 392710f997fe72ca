"""Relaying: CPU per token, streams at reading speed and in a flood."""

from __future__ import annotations

import time
from collections import defaultdict

from bench.processes import Load, Server, bench
from bench.requests import script
from bench.table import p50, show

STREAMS = 100
RATE = 50
FLOODS = 8
FLOOD = 20_000


def run(rounds: int = 3, seconds: float = 5.0) -> None:
    """Measure the floor, the service and the naive peer in turn, *rounds* times."""
    steady: dict[str, list[float]] = defaultdict(list)
    flood: dict[str, list[float]] = defaultdict(list)
    with bench() as start:
        upstream = start.upstream()
        servers = [upstream, start.service(upstream), start.naive(upstream)]
        load = start.load()
        for server in servers:
            _flood(load, server, tokens=2_000)  # imports, caches, pools
        for _ in range(rounds):
            for server in servers:
                steady[server.target.kind].append(_steady(load, server, seconds))
            for server in servers:
                flood[server.target.kind].append(_flood(load, server, tokens=FLOOD))
    show(
        f"Relay: {STREAMS} streams x {RATE} tokens/s for {seconds:g} s, and a flood; median of {rounds} interleaved rounds",
        ("", "CPU µs per token", "all rounds", "flood, tokens per CPU second", "all rounds"),
        [
            (
                kind,
                f"{p50(steady[kind]) * 1e6:.1f}",
                ", ".join(f"{each * 1e6:.1f}" for each in steady[kind]),
                f"{p50(flood[kind]) / 1000:.1f} k",
                ", ".join(f"{each / 1000:.1f} k" for each in flood[kind]),
            )
            for kind in steady
        ],
    )


def _steady(load: Load, server: Server, seconds: float) -> float:
    """CPU seconds per token."""
    server.settle()
    load("open", target=server.target, count=STREAMS, script=script(rate=RATE, tokens=1_000_000))
    before = server.used()
    first: int = load("tokens")["tokens"]
    time.sleep(seconds)
    after, last = server.used(), load("tokens")
    load("close")
    if last["lost"]:
        raise RuntimeError(f"{server.target.kind} lost {last['lost']} streams")
    tokens: int = last["tokens"] - first
    return (after.cpu - before.cpu) / tokens


def _flood(load: Load, server: Server, *, tokens: int) -> float:
    """Tokens per CPU second, of `FLOODS` streams with so many tokens each."""
    server.settle()
    before = server.used()
    load("open", target=server.target, count=FLOODS, script=script(tokens=tokens))
    result = load("finish")
    after = server.used()
    load("close")
    if result["tokens"] != FLOODS * tokens:
        raise RuntimeError(f"{server.target.kind} relayed {result['tokens']} of {FLOODS * tokens}")
    return FLOODS * tokens / max(after.cpu - before.cpu, 0.01)  # the kernel's clock tick
