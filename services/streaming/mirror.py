"""The mirror: one task per process copies the frames of its resumable streams to where others read.

A stream's log only notes that it has something new. What gathers while one batch is on its way
leaves with the next, so however many tokens there are, there is one round trip at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from loguru import logger

from services.errors import StreamsUnavailable
from services.streaming.chat_stream import ChatStream
from services.streaming.log_redis import ENDED, LOST, Batch, RedisLogs
from services.streaming.store import Claim

LAG: Final = 0.02  # seconds that news may wait for more
SLICE: Final = 262_144  # bytes of one stream in one batch
_BACK_OFF: Final = 0.25
_NOBODY: Final = ""  # a process that has no lease


class _Mirrored:
    """One stream, and how much of it the others have; None: nobody knows."""

    __slots__ = ("_mirror", "claim", "leaving", "position", "stream")

    def __init__(self, mirror: Mirror, stream: ChatStream, claim: Claim | None) -> None:
        self._mirror = mirror
        self.stream = stream
        self.claim = claim
        self.position: int | None = 0
        self.leaving = False  # as soon as the others have all of it

    def wake(self) -> None:
        self._mirror.note(self)

    @property
    def behind(self) -> bool:
        return self.position is None or self.position < len(self.stream.log)


@dataclass(frozen=True, slots=True)
class _Withdrawn:
    stream_id: str
    claim: Claim | None


class Mirror:
    """Copies streams into *logs*."""

    def __init__(self, logs: RedisLogs) -> None:
        self._logs = logs
        self._mirrored: dict[ChatStream, _Mirrored] = {}
        self._behind: dict[_Mirrored, None] = {}
        self._withdrawn: list[_Withdrawn] = []
        self._given_up: list[str] = []
        self._news = asyncio.Event()
        self._sending = asyncio.Lock()
        self._away = False

    def publish(self, stream: ChatStream, claim: Claim | None, *, announced: bool) -> None:
        """Copy what *stream* says from now on; unless *announced*, say at once that it exists."""
        mirrored = self._mirrored[stream] = _Mirrored(self, stream, claim)
        stream.log.attach(mirrored)
        if not announced:
            mirrored.position = None
            self.note(mirrored)

    def forget(self, stream: ChatStream) -> None:
        """Copy *stream*, which has ended, no more when the others have all of it.

        At once during an outage, which may be long, with many to forget: then it is lost for others.
        """
        if mirrored := self._mirrored.get(stream):
            mirrored.leaving = True
            if not mirrored.behind:
                self._drop(mirrored)
            elif self._away:
                self._give_up(mirrored)

    def erase(self, stream_ids: Collection[str]) -> None:
        """Copy nothing more of these streams, whatever the others miss."""
        for mirrored in tuple(self._mirrored.values()):
            if mirrored.leaving and mirrored.stream.id in stream_ids:
                self._drop(mirrored)

    def withdraw(self, stream_id: str, claim: Claim | None) -> None:
        """Take back that a stream was registered."""
        self._withdrawn.append(_Withdrawn(stream_id, claim))
        self._news.set()

    def note(self, mirrored: _Mirrored) -> None:
        """*mirrored* has news."""
        self._behind[mirrored] = None
        self._news.set()

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        """Nothing is on its way while the block runs."""
        async with self._sending:
            yield

    def doubt(self) -> None:
        """The others may have lost what they had: find out, and send what is missing."""
        for mirrored in self._mirrored.values():
            mirrored.position = None
            self._behind[mirrored] = None
        self._news.set()

    async def run(self) -> None:
        """Copy until cancelled; an outage is waited out, and logged once."""
        while True:
            await self._news.wait()
            try:
                await self.flush_once()
            except StreamsUnavailable as exc:
                if not self._away:
                    self._away = True
                    logger.bind(reason=exc.message, behind=len(self._behind)).warning(
                        "Streams could not be shared"
                    )
                for mirrored in tuple(self._mirrored.values()):
                    if mirrored.leaving:
                        self._give_up(mirrored)
                self.doubt()
                await asyncio.sleep(_BACK_OFF)
            else:
                if self._away:
                    self._away = False
                    logger.info("Streams are shared again")
                await asyncio.sleep(LAG)

    async def flush(self) -> None:
        """Copy all there is. Raises `StreamsUnavailable`."""
        while self._news.is_set():
            await self.flush_once()

    async def flush_once(self) -> None:
        """Send one batch of every stream that is behind. Raises `StreamsUnavailable`."""
        async with self._sending:
            try:
                await self._flush_once()
            except asyncio.CancelledError:
                self._news.set()  # the process ends, and will flush
                raise

    async def _flush_once(self) -> None:
        self._news.clear()
        while self._withdrawn:
            await self._logs.withdraw(self._withdrawn[-1].stream_id, self._withdrawn[-1].claim)
            self._withdrawn.pop()
        while self._given_up:
            await self._logs.lose(self._given_up[-1], _NOBODY)
            self._given_up.pop()
        if not self._behind:
            return
        behind, self._behind = list(self._behind), {}
        try:
            replies = await self._logs.append([_batch(mirrored) for mirrored in behind])
        except asyncio.CancelledError:
            for mirrored in behind:
                if mirrored.stream in self._mirrored:
                    mirrored.position = None  # whether it arrived, nobody knows
                    self._behind[mirrored] = None
            raise
        for mirrored, at in zip(behind, replies, strict=True):
            self._settle(mirrored, at)

    def _settle(self, mirrored: _Mirrored, at: int) -> None:
        if at == LOST:
            # This process was taken for dead: for the others the stream is over.
            logger.bind(request_id=mirrored.stream.turn.request_id).warning(
                "Stream was declared lost while it ran"
            )
            self._drop(mirrored)
            return
        mirrored.position = len(mirrored.stream.log) if at == ENDED else at
        if mirrored.stream not in self._mirrored:
            return
        if mirrored.behind:
            self.note(mirrored)
        elif mirrored.leaving:
            self._drop(mirrored)

    def _give_up(self, mirrored: _Mirrored) -> None:
        """Have its readers elsewhere told that it is lost, or they would wait for its end for ever."""
        self._drop(mirrored)
        self._given_up.append(mirrored.stream.id)
        self._news.set()

    def _drop(self, mirrored: _Mirrored) -> None:
        if self._mirrored.pop(mirrored.stream, None):
            mirrored.stream.log.detach(mirrored)
            self._behind.pop(mirrored, None)


def _batch(mirrored: _Mirrored) -> Batch:
    stream, position = mirrored.stream, mirrored.position
    log = stream.log
    if position is None or position >= len(log):
        first, last, frames, end = 0, 0, b"", False
    else:
        frames, last = log.read(position, limit=SLICE)
        first, end = position + 1, log.ended and last == len(log)
    return Batch(stream.id, stream.turn.user_id, mirrored.claim, first, last, frames, end)
