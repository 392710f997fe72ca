"""Figures as the rows of a table."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from statistics import median, quantiles

import psutil


def p50(values: Sequence[float]) -> float:
    """The median."""
    return median(values)


def p99(values: Sequence[float]) -> float:
    """The 99th percentile."""
    return quantiles(values, n=100, method="inclusive")[-1]


def spread(seconds: Sequence[float]) -> str:
    """Median and 99th percentile, in milliseconds."""
    return f"{p50(seconds) * 1000:.2f} / {p99(seconds) * 1000:.2f}"


def show(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    print(f"\n{title}\n")
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(row)} |")
    print(flush=True)


def machine() -> str:
    """One line on where and when this ran."""
    with open("/proc/cpuinfo") as cpuinfo:  # noqa: PTH123 - not a file
        model = next(
            (line.partition(":")[2].strip() for line in cpuinfo if "model name" in line), "?"
        )
    packages = ", ".join(f"{name} {version(name)}" for name in ("sanic", "aiohttp", "uvloop"))
    load = psutil.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {psutil.cpu_count()} x {model}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {packages}; load average at start {load:.1f}"
    )
