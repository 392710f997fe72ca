"""Readers in other processes: each counts as a reader here for as long as it keeps saying so."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Final

from services.streaming.chat_stream import ChatStream

LEASE: Final = 6.0  # seconds; `following` renews it every 2


class DistantReaders:
    """Keeps streams attached to that are read through other processes."""

    def __init__(self) -> None:
        self._held: dict[ChatStream, ExitStack] = {}
        self._expiry: dict[ChatStream, asyncio.TimerHandle] = {}

    def wake(self) -> None:
        """Nothing to do: what is new reaches the other process by the mirror."""

    def renew(self, stream: ChatStream) -> None:
        """Count one reader of *stream* for another lease."""
        if stream in self._held:
            self._expiry[stream].cancel()
        else:
            self._held[stream] = ExitStack()
            self._held[stream].enter_context(stream.attach(self))
        loop = asyncio.get_running_loop()
        self._expiry[stream] = loop.call_later(LEASE, self._leave, stream)

    def close(self) -> None:
        """Count nobody any more."""
        for stream in tuple(self._held):
            self._leave(stream)

    def _leave(self, stream: ChatStream) -> None:
        self._expiry.pop(stream).cancel()
        self._held.pop(stream).close()
