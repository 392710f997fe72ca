"""Following: streams of other processes, each as a local log that two tasks keep up to date.

One task reads what is new in all followed logs with one command. The other looks after the
processes that produce them: when one has been silent for too long, its streams are ended, so that
nobody waits for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from loguru import logger

from services.errors import StreamsUnavailable
from services.streaming import sse
from services.streaming.log import Reader, StreamLog
from services.streaming.log_redis import RedisLogs, Snapshot
from services.streaming.replay import lost_frame
from services.streaming.store import How

WAIT: Final = 0.1  # seconds; also how late a stream that is followed from now on may be noticed
WATCH: Final = 0.5
SILENCE: Final = 2.5  # seconds without a lease, after it ran out, until a stream counts as lost
OUTAGE: Final = 7.0  # seconds without Redis until its readers are told
_BACK_OFF: Final = 0.1
_RENEW_EVERY: Final = 4  # watches between two notes that somebody reads


class DistantStream:
    """An answer that another process produces, as far as it is known here."""

    resumable = True

    def __init__(
        self, following: Following, stream_id: str, snapshot: Snapshot, how: How | None
    ) -> None:
        self.id = stream_id
        self.log = StreamLog()
        self.process = snapshot.process
        self.lost = False
        self.audience = 0  # connections, which are told the end
        self._readers = 0
        self.how = how
        self.silent_since: float | None = None
        self._following = following
        self.take(len(snapshot.frames), snapshot.frames)

    @contextmanager
    def attach(self, reader: Reader) -> Iterator[None]:
        """Wake *reader* while the block runs, and tell it the end."""
        self.audience += 1
        try:
            with self.watched(reader):
                yield
        finally:
            self.audience -= 1

    @contextmanager
    def watched(self, reader: Reader) -> Iterator[None]:
        """Wake *reader* while the block runs; the stream is followed as long as it has any."""
        self._readers += 1
        self.log.attach(reader)
        self._following.add(self)
        try:
            yield
        finally:
            self.log.detach(reader)
            self._readers -= 1
            if self._readers == 0:
                self._following.drop(self)

    def take(self, last: int, frames: Sequence[bytes]) -> None:
        """Append those of *frames*, which end with number *last*, that are new."""
        new = last - len(self.log)
        if new > 0 and not self.log.ended:
            fresh = frames[-new:]
            self.log.append(fresh, last=sse.is_done(fresh[-1]))

    def lose(self) -> None:
        """End it as lost."""
        if not self.log.ended:
            self.lost = True
            self.log.append([lost_frame(len(self.log) + 1)], last=True)


class Following:
    """All streams that are followed through *logs*."""

    def __init__(self, logs: RedisLogs) -> None:
        self._logs = logs
        self._followed: dict[str, DistantStream] = {}
        self._any = asyncio.Event()
        self._watches = 0

    async def find(self, stream_id: str, user_id: str, how: How | None) -> DistantStream | None:
        """The stream of that id, if it is *user_id*'s. Raises `StreamsUnavailable`."""
        snapshot = await self._logs.load(stream_id)
        if snapshot is None or snapshot.user_id != user_id:
            return None
        if (known := self._followed.get(stream_id)) and not known.log.ended:
            known.take(len(snapshot.frames), snapshot.frames)
            known.how = known.how or how
            return known
        found = DistantStream(self, stream_id, snapshot, how)
        if snapshot.state == "lost":
            found.lose()
        return found

    def add(self, stream: DistantStream) -> None:
        """Follow *stream* from now on."""
        if not stream.log.ended:
            self._followed[stream.id] = stream
            self._any.set()

    def drop(self, stream: DistantStream) -> None:
        """Follow *stream* no more."""
        if self._followed.get(stream.id) is stream:
            del self._followed[stream.id]
        if not self._followed:
            self._any.clear()

    async def tail(self) -> None:
        """Read what is new, until cancelled."""
        while True:
            await self._any.wait()
            positions = {each.id: len(each.log) for each in self._followed.values()}
            try:
                news = await self._logs.tail(positions, wait=WAIT)
            except StreamsUnavailable:
                await asyncio.sleep(_BACK_OFF)
                continue
            for stream_id, (last, frames) in news.items():
                if stream := self._followed.get(stream_id):
                    self._take(stream, last, frames)

    async def watch(self) -> None:
        """Look after the processes that produce what is followed, until cancelled."""
        reached = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(WATCH)
            now = asyncio.get_running_loop().time()
            if not self._followed:
                reached = now
                continue
            try:
                await self._look(now)
                reached = now
            except StreamsUnavailable as exc:
                for stream in self._followed.values():
                    stream.silent_since = None  # nobody can tell
                if now - reached > OUTAGE:
                    logger.bind(reason=exc.message, streams=len(self._followed)).error(
                        "Streams of other processes are out of reach"
                    )
                    for stream in tuple(self._followed.values()):
                        self._end(stream)

    async def _look(self, now: float) -> None:
        followed = tuple(self._followed.values())
        alive, stands = await self._logs.states({each.id: each.process for each in followed})
        for stream in followed:
            state = stands[stream.id]
            if state == "running" and alive[stream.process]:
                stream.silent_since = None
            elif state == "lost":
                await self._end_for_good(stream)
            elif stream.silent_since is None:
                stream.silent_since = now
            elif now - stream.silent_since > SILENCE:
                await self._give_up(stream)
        self._watches += 1
        if notes := [(each.process, note) for each in followed if (note := self._note(each))]:
            await self._logs.send(notes)

    def _note(self, stream: DistantStream) -> str | None:
        if stream.log.ended or not stream.audience:
            return None
        if stream.how is None and self._watches % _RENEW_EVERY:
            return None
        how, stream.how = stream.how, None
        return f"read {stream.id} {how or ''}"

    async def _give_up(self, stream: DistantStream) -> None:
        """End a stream whose process was silent for too long, for all of its readers everywhere."""
        state = await self._logs.lose(stream.id, stream.process)
        if state == "running":
            stream.silent_since = None
            return
        logger.bind(stream_id=stream.id, process=stream.process, state=state).warning(
            "Stream lost with its process"
        )
        await self._end_for_good(stream)

    async def _end_for_good(self, stream: DistantStream) -> None:
        """Take what is there, since nothing is appended any more, and the end."""
        if snapshot := await self._logs.load(stream.id):
            self._take(stream, len(snapshot.frames), snapshot.frames)
        if not stream.log.ended:
            self._end(stream)

    def _take(self, stream: DistantStream, last: int, frames: Sequence[bytes]) -> None:
        stream.take(last, frames)
        if stream.log.ended:
            self.drop(stream)

    def _end(self, stream: DistantStream) -> None:
        stream.lose()
        self.drop(stream)
