"""Writing behind the backs of the streams: taken at once, written together, kept during an outage."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from loguru import logger

from services.errors import Unavailable
from services.steps import HURRY

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Pace:
    """How much at once, and how long to wait for what, in seconds.

    *capacity* items may wait, *batch* are written together (or so much of what is weighed), and *linger*
    is how long an item waits for others. *attempt* is how long one attempt may take; *retry* and *retry_at_most* bound the pauses
    between attempts, which grow. *close* is the patience with what is left at the end, and *stop*
    that with an attempt which was cancelled then: a network that swallows packets can hold it up
    for minutes.
    """

    capacity: int = 1000
    batch: int = 100
    linger: float = 0.1
    attempt: float = 10.0
    retry: float = 0.2
    retry_at_most: float = 15.0
    close: float = 5.0
    stop: float = 0.5


class WriteBehind(Generic[Item]):
    """Gives items to *write*, in order, some at a time; what does not fit is dropped and counted.

    *write* stores all it is given, or nothing; given the same again, because its answer was lost, it
    changes nothing. While it raises `Unavailable`, or takes too long, its items stay first in line;
    after what took too long, fewer are tried.
    Any other error is the fault of one item, which is found by halving, and dropped. In the log,
    *store* is where items go, and *items* is what they are. Items of very different sizes are measured
    by *weigh*.
    """

    def __init__(
        self,
        store: str,
        items: str,
        write: Callable[[Sequence[Item]], Coroutine[Any, Any, None]],
        pace: Pace | None = None,
        *,
        weigh: Callable[[Item], int] = lambda _: 1,
    ) -> None:
        self._store = store
        self._items = items
        self._write = write
        self._pace = pace or Pace()
        self._weigh = weigh
        self._waiting: deque[Item] = deque()
        self._weight = 0
        self._dropped = 0
        self._dropped_logged = 0
        self._refusal: str | None = None
        self._away = False
        self._open = False
        self._something = asyncio.Event()
        self._urgent = asyncio.Event()
        self._closing = asyncio.Event()
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
        if not self._open or self._weight >= self._pace.capacity:
            self._dropped += 1
            return
        self._waiting.append(item)
        self._weight += self._weigh(item)
        self._something.set()
        if self._weight >= self._pace.batch:
            self._urgent.set()

    def last(self, wanted: Callable[[Item], bool]) -> Item | None:
        """The last *wanted* item that is still to be written."""
        return next(filter(wanted, reversed(self._waiting)), None)

    async def written(self, wanted: Callable[[Item], bool]) -> None:
        """Wait until no *wanted* item is left to write. Somebody waits: they don't linger."""
        while any(map(wanted, self._waiting)):
            self._urgent.set()
            await self._progress.wait()

    async def discard(self, unwanted: Callable[[Item], bool]) -> None:
        """Forget the *unwanted* items. If some are just being written, wait for the end of that."""
        self._keep([item for item in self._waiting if not unwanted(item)])
        async with self._attempting:
            pass

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[WriteBehind[Item]]:
        """Write while the block runs; at its end what is left, within the patience for it."""
        self._open = True
        # Not a TaskGroup: it would wrap in a group whatever the block raises.
        writer = asyncio.create_task(self._run(), name=f"{self._store} writer")
        try:
            yield self
        finally:
            self._open = False
            self._closing.set()
            self._urgent.set()
            self._something.set()
            try:
                await asyncio.wait({writer}, timeout=self._pace.close)
            finally:
                writer.cancel()
                await asyncio.wait({writer})
                self._dropped += self.depth
                self._keep([])
                self._log_dropped()

    async def _run(self) -> None:
        HURRY.set(self._closing)
        while self._waiting or not self._closing.is_set():
            if not self._waiting:
                await self._something.wait()
            self._something.clear()
            if not self._closing.is_set():
                await _wait(self._urgent, self._pace.linger)
            self._urgent.clear()
            await self._flush()
            self._log_dropped()

    async def _flush(self) -> None:
        """Write what waits. What comes meanwhile may linger, unless it is enough for a batch."""
        most, pause = sys.maxsize, self._pace.retry
        while self._waiting:
            async with self._attempting:
                items = self._first(most)
                try:
                    await self._attempt(items)
                except Unavailable as exc:
                    self._log_outage(exc)
                except TimeoutError as exc:
                    self._log_outage(exc)
                    # They may be too much for one attempt, however often it is made.
                    most = max(1, len(items) // 2)
                except Exception as exc:
                    # Whatever it is: if the writer ended, nobody would notice.
                    if len(items) > 1:
                        most = len(items) // 2
                        continue
                    self._dropped += 1
                    self._refusal = type(exc).__name__
                    self._done_with(items)
                    most = sys.maxsize
                    continue
                else:
                    self._log_recovery()
                    self._done_with(items)
                    pause = self._pace.retry
                    most = min(most * 2, sys.maxsize)
                    if self._may_linger():
                        return
                    continue
            await self._pause(pause)
            pause = min(pause * 2, self._pace.retry_at_most)

    async def _attempt(self, items: Sequence[Item]) -> None:
        # A task of its own: `databases` keeps a connection per task, and if giving one back
        # failed, would hand that one out to this task for ever.
        writing = asyncio.create_task(self._write(items))
        try:
            if not (await asyncio.wait({writing}, timeout=self._pace.attempt))[0]:
                # The driver tells the server to stop, which takes as long as the network pleases.
                writing.cancel()
                self._log_outage(TimeoutError())
                await asyncio.wait({writing})
        except asyncio.CancelledError:
            writing.cancel()
            writing.add_done_callback(_look_at)
            await asyncio.wait({writing}, timeout=self._pace.stop)
            raise
        if writing.cancelled():
            raise TimeoutError
        writing.result()

    def _may_linger(self) -> bool:
        hurry = self._urgent.is_set() or self._closing.is_set()
        return not hurry and self._weight < self._pace.batch

    def _first(self, most: int) -> list[Item]:
        """The first *most* items, or as many as are a batch."""
        items: list[Item] = []
        weight = 0
        for item in self._waiting:
            if weight >= self._pace.batch or len(items) == most:
                break
            items.append(item)
            weight += self._weigh(item)
        return items

    def _done_with(self, items: Sequence[Item]) -> None:
        # Some may have been discarded meanwhile; the others are still the first, in their order.
        for item in items:
            if self._waiting and self._waiting[0] is item:
                self._weight -= self._weigh(self._waiting.popleft())
        self._progressed()

    def _keep(self, items: Sequence[Item]) -> None:
        self._waiting = deque(items)
        self._weight = sum(map(self._weigh, items))
        self._progressed()

    async def _pause(self, duration: float) -> None:
        """Wait, but not long once the end has begun."""
        if self._closing.is_set():
            await asyncio.sleep(min(duration, self._pace.retry))
        else:
            await _wait(self._closing, duration)

    def _progressed(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()

    def _log_outage(self, exc: Exception) -> None:
        if not self._away:
            self._away = True
            # Never its text: a driver may repeat in it what somebody wrote.
            cause = exc.__cause__ or exc
            name = getattr(cause, "sqlite_errorname", type(cause).__name__)
            logger.bind(error=name, waiting=self.depth).warning(f"{self._store} unavailable")

    def _log_recovery(self) -> None:
        if self._away:
            self._away = False
            logger.bind(waiting=self.depth, dropped=self._dropped).info(
                f"{self._store} available again"
            )

    def _log_dropped(self) -> None:
        if new := self._dropped - self._dropped_logged:
            self._dropped_logged = self._dropped
            logger.bind(dropped=new, refusal=self._refusal).warning(f"{self._items} dropped")
            self._refusal = None


async def _wait(event: asyncio.Event, patience: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(patience):
            await event.wait()


def _look_at(task: asyncio.Task[Any]) -> None:
    """Take note of how *task* ended, or asyncio logs that nobody did."""
    if not task.cancelled():
        task.exception()
