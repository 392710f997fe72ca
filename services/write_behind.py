"""Writing behind the backs of the streams: taken at once, written in order, kept during an outage."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Generic, TypeVar

from loguru import logger

from services.errors import Unavailable

Item = TypeVar("Item")

_CANCEL_TIMEOUT: Final = 0.5


class WriteBehind(Generic[Item]):
    """Gives items to *write*, one after the other; *capacity* may wait, more are dropped and counted.

    While *write* raises `Unavailable`, or takes longer than *attempt*, its item stays the first in
    line, and the pauses between attempts grow from *retry* to *retry_at_most*. Any other error drops
    the item. *close* is the patience with what is left at the end. Durations are seconds.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[Item], Coroutine[Any, Any, None]],
        *,
        capacity: int = 1000,
        retry: float = 0.2,
        retry_at_most: float = 15.0,
        attempt: float = 10.0,
        close: float = 5.0,
    ) -> None:
        self._name = name
        self._write = write
        self._capacity = capacity
        self._retry = retry
        self._retry_at_most = retry_at_most
        self._attempt = attempt
        self._close = close
        self._waiting: deque[Item] = deque()
        self._dropped = 0
        self._away = False
        self._open = False
        self._closing = asyncio.Event()
        self._something = asyncio.Event()
        self._progress = asyncio.Event()
        self._attempting = asyncio.Lock()

    @property
    def depth(self) -> int:
        """Items that are not written yet."""
        return len(self._waiting)

    @property
    def dropped(self) -> int:
        """Items that never will be."""
        return self._dropped

    def put(self, item: Item) -> None:
        """Take *item*. Never blocks, never raises; if full or closed, it is dropped."""
        if self._open and self.depth < self._capacity:
            self._waiting.append(item)
            self._something.set()
        else:
            self._drop(1, "full" if self._open else "closed")

    async def written(self, wanted: Callable[[Item], bool]) -> None:
        """Wait until no *wanted* item is left to write."""
        while any(map(wanted, self._waiting)):
            await self._progress.wait()

    async def discard(self, unwanted: Callable[[Item], bool]) -> None:
        """Forget the *unwanted* items. If one is just being written, wait for the end of it."""
        kept = [item for item in self._waiting if not unwanted(item)]
        self._waiting.clear()
        self._waiting.extend(kept)
        self._progressed()
        async with self._attempting:
            pass

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[WriteBehind[Item]]:
        """Write while the block runs; at its end what is left, within the patience for it."""
        self._open = True
        # Not a TaskGroup: it would wrap in a group whatever the block raises.
        writer = asyncio.create_task(self._run(), name=f"{self._name} writer")
        try:
            yield self
        finally:
            self._open = False
            self._closing.set()
            self._something.set()
            try:
                await asyncio.wait({writer}, timeout=self._close)
            finally:
                writer.cancel()
                # Not longer: a network that swallows packets can hold up its end for minutes.
                await asyncio.wait({writer}, timeout=_CANCEL_TIMEOUT)
                if left := self.depth:
                    self._drop(left, "closed")

    async def _run(self) -> None:
        pause = self._retry
        while self._waiting or not self._closing.is_set():
            await self._something.wait()
            if not self._closing.is_set():
                self._something.clear()
            while self._waiting:
                if await self._write_first():
                    pause = self._retry
                else:
                    await self._pause(pause)
                    pause = min(pause * 2, self._retry_at_most)

    async def _write_first(self) -> bool:
        """Try to write the first item; whether it is done with."""
        async with self._attempting:
            if not self._waiting:
                return True
            item = self._waiting[0]
            try:
                async with asyncio.timeout(self._attempt):
                    # A task of its own: `databases` keeps a connection per task, and if giving one
                    # back failed, would hand that one out to this task for ever.
                    await asyncio.create_task(self._write(item))
            except (Unavailable, TimeoutError) as exc:
                self._log_outage(exc)
                return False
            except Exception:
                # If the writer ended, nobody would notice.
                logger.bind(queue=self._name).exception("Write refused")
                self._drop(1, "refused")
            else:
                self._log_recovery()
            # It may have been discarded meanwhile.
            if self._waiting and self._waiting[0] is item:
                self._waiting.popleft()
            self._progressed()
            return True

    async def _pause(self, duration: float) -> None:
        """Wait, but not long once the end has begun."""
        if self._closing.is_set():
            await asyncio.sleep(min(duration, self._retry))
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(duration):
                await self._closing.wait()

    def _progressed(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()

    def _drop(self, number: int, reason: str) -> None:
        self._dropped += number
        logger.bind(queue=self._name, reason=reason, dropped=number).warning("Writes dropped")

    def _log_outage(self, exc: Exception) -> None:
        if not self._away:
            self._away = True
            cause = exc.__cause__ or exc
            logger.bind(queue=self._name, error=type(cause).__name__, waiting=self.depth).warning(
                "Writes are waiting"
            )

    def _log_recovery(self) -> None:
        if self._away:
            self._away = False
            logger.bind(queue=self._name, waiting=self.depth).info("Writes go on")
