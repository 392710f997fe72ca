"""Starts: while connections pour in, answers wait to begin, so that everybody gets the first bytes first."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial

AT_ONCE = 4
PATIENCE = 0.5  # seconds


class Starts:
    """Calls what begins an answer: at once, or in a burst when no more come, or after *patience* seconds.

    The event loop accepts one connection per turn (libuv since 1.45). If a thousand connect together and
    each answer began as it came, the last client would get its first bytes after the prompts, provider
    connections and first tokens of all the others. A burst is over with the first turn in which nothing was
    added; from then on *at_once* begin per turn, in order. Garbage is not collected meanwhile: that took a
    tenth of the time until the last first bytes.
    """

    def __init__(self, at_once: int = AT_ONCE, patience: float = PATIENCE) -> None:
        self._at_once = at_once
        self._patience = patience
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()  # the oldest first
        self._turning = False
        self._added = False

    def add(self, begin: Callable[[], None]) -> None:
        """Call *begin* in the caller's context, now or soon, after those that were added before."""
        loop = asyncio.get_running_loop()
        self._added = True
        if self._turning:
            # Turns run in the context of whoever set them off, which is another request's.
            self._waiting.append((loop.time(), partial(copy_context().run, begin)))
        else:
            self._turning = True
            gc.disable()
            loop.call_soon(self._turn)
            begin()

    def _turn(self) -> None:
        """Once per turn of the loop, from the one after something was added to the first idle one."""
        added, self._added = self._added, False
        self._turning = added or bool(self._waiting)
        if not added:
            gc.enable()
        if not self._turning:
            return
        loop = asyncio.get_running_loop()
        loop.call_soon(self._turn)
        if not added:
            for _ in range(min(self._at_once, len(self._waiting))):
                self._waiting.popleft()[1]()
        elif self._waiting and self._waiting[0][0] <= loop.time() - self._patience:
            gc.enable()
            self._waiting.popleft()[1]()
