"""Patience: a time limit that a process which is only busy does not run into."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

TURNS: Final = 10


@asynccontextmanager
async def patience(limit: float) -> AsyncIterator[None]:
    """Raise `TimeoutError` after *limit* seconds in which the event loop went round.

    `asyncio.timeout` also fires when the loop itself was held up, be it by a hundred requests at
    once or by a machine without a free core, while the answer lies in the socket. Here the limit is
    spent in ten parts, each by one turn of the loop at least.
    """
    loop = asyncio.get_running_loop()
    turns = TURNS
    timer: asyncio.TimerHandle

    def wait_a_turn() -> None:
        nonlocal timer
        timer = loop.call_later(limit / TURNS, turn)

    def turn() -> None:
        nonlocal turns
        turns -= 1
        if turns:
            wait_a_turn()
        else:
            deadline.reschedule(loop.time())

    async with asyncio.timeout(None) as deadline:
        wait_a_turn()
        try:
            yield
        finally:
            timer.cancel()
