"""Starts: answers begin a few at a time, so that whoever has just come gets the first bytes first."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

AT_ONCE = 4


class Starts:
    """Calls what begins an answer: at once, or if many begin in one turn of the event loop, in a later one.

    A thousand who connect together are a few long turns of the loop. If all whose request was read
    in one of them began to be answered in the next, prompts, provider connections and first tokens
    would come before the first bytes of those who still wait to be read.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._left = at_once
        self._waiting: deque[Callable[[], None]] = deque()
        self._turning = False

    def add(self, begin: Callable[[], None]) -> None:
        """Call *begin*, now or soon, after those that were added before."""
        if self._left and not self._waiting:
            self._left -= 1
            begin()
        else:
            self._waiting.append(begin)
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._left = self._at_once
        self._turning = bool(self._waiting)
        if self._turning:
            asyncio.get_running_loop().call_soon(self._turn)
        while self._waiting and self._left:
            self._left -= 1
            self._waiting.popleft()()
