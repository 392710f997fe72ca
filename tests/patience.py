"""How long a test waits for what must come: until it comes, or so long that only a hang takes longer.

A busy machine may stop a process for seconds. So waits end with a condition, never with a short
time; only what the contract limits is timed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE = 60.0  # seconds


async def until(holds: Callable[[], object], *, pause: float = 0.01) -> None:
    """Wait for something that nobody announces, while the loop runs; 0 looks in each of its rounds."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(pause)


def await_true(holds: Callable[[], object], otherwise: Callable[[], str] = str) -> None:
    """The same where there is no loop; *otherwise* says what to report if it never holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, otherwise() or "it never came about"
        time.sleep(0.02)
