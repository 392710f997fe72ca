"""Deadlines: one timer for the whole process has every connection look whether it is late.

A timer per connection would weigh 0.4 KiB for as long as it is open, and a look costs half a
microsecond. So nothing that is late goes on for longer than `PERIOD` more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from math import ceil
from time import monotonic
from typing import Protocol

PERIOD = 1.0  # seconds from one look at a connection to the next
# So many look in one go; thousands together would hold up the loop.
AT_ONCE = 500


class Timed(Protocol):
    """Something that may be late."""

    def look(self, now: float) -> None:
        """End what has had its time at *now*, by the monotonic clock. Never blocks."""
        ...


class Deadlines:
    """Has each of *connections* look once per `PERIOD`; oftener, if the *shortest* deadline is as short."""

    def __init__(self, connections: Collection[Timed], *, shortest: float) -> None:
        self._connections = connections
        self._period = self._pause = min(PERIOD, shortest / 4)
        self._to_look: list[Timed] = []
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look; needs a running loop."""
        self._timer = asyncio.get_running_loop().call_later(self._pause, self._turn)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _turn(self) -> None:
        if not self._to_look:
            self._to_look = list(self._connections)
            self._pause = self._period / max(1, ceil(len(self._to_look) / AT_ONCE))
        self.start()
        now = monotonic()
        part = self._to_look[-AT_ONCE:]
        del self._to_look[-AT_ONCE:]
        for connection in part:
            connection.look(now)
