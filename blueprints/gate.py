"""A gate: what an `asyncio.Event` is, for connections of which there are thousands."""

from __future__ import annotations

import asyncio


class Gate:
    """An `asyncio.Event` that takes 0.1 KiB instead of 0.8 while nobody waits for it."""

    __slots__ = ("_is_open", "_waiters")

    def __init__(self, *, is_open: bool = False) -> None:
        self._is_open = is_open
        self._waiters: tuple[asyncio.Future[None], ...] = ()

    def is_set(self) -> bool:
        """Whether it is open."""
        return self._is_open

    def set(self) -> None:
        """Open it, and let everybody through who waits."""
        self._is_open = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        """Close it; whoever was let through stays so."""
        self._is_open = False

    async def wait(self) -> bool:
        """Return True once it is open, or was since the call."""
        if self._is_open:
            return True
        waiter = asyncio.get_running_loop().create_future()
        self._waiters += (waiter,)
        try:
            await waiter
        finally:
            self._waiters = tuple(other for other in self._waiters if other is not waiter)
        return True
