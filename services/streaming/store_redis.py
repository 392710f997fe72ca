"""Shared streams by Redis: what this process offers to others, and finds of theirs."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Final, cast

from loguru import logger

from services.errors import StreamsUnavailable
from services.streaming.chat_stream import ChatStream
from services.streaming.following import DistantStream, Following
from services.streaming.log import Readable
from services.streaming.log_redis import RedisLogs, open_redis_logs
from services.streaming.mirror import Mirror
from services.streaming.replay import lost
from services.streaming.store import Claim, Holder, How, Inbox

LEASE: Final = 4.0  # seconds a process counts as alive after it last said so
_RENEW: Final = 1.0
_CATCH_UP: Final = LEASE + 5.0  # the mirror's lag, or else the time until a lost stream is noticed
_INBOX_WAIT: Final = 1.0
_CLOSE: Final = 2.0


class RedisStreams:
    """Lets other processes read the streams of this one, and this one theirs.

    *catch_up* is how long, in seconds, a reader that is ahead of the copy waits for it.
    """

    def __init__(self, logs: RedisLogs, *, catch_up: float = _CATCH_UP) -> None:
        self._logs = logs
        self._catch_up = catch_up
        self._mirror = Mirror(logs)
        self._following = Following(logs)
        self._inbox: Inbox | None = None

    def serve(self, inbox: Inbox) -> None:
        """Pass on to *inbox* what others ask of this process."""
        self._inbox = inbox

    async def register(self, stream_id: str, user_id: str, claim: Claim | None) -> Holder | None:
        """Announce a stream and take its claim, or say who has that. Raises `StreamsUnavailable`."""
        return await self._logs.register(stream_id, user_id, claim)

    def withdraw(self, stream_id: str, claim: Claim | None) -> None:
        """Take back what was registered."""
        self._mirror.withdraw(stream_id, claim)

    def publish(self, stream: ChatStream, claim: Claim | None, *, announced: bool) -> None:
        """Copy what *stream* says from now on; announce it as soon as possible if nobody knows it."""
        self._mirror.publish(stream, claim, announced=announced)

    def forget(self, stream: ChatStream) -> None:
        """Copy *stream*, which has ended, no more when the others have all of it."""
        self._mirror.forget(stream)

    async def erase(self, stream_ids: Collection[str]) -> set[str]:
        """Erase those of the streams that do not run elsewhere, and their claims; the ids of those.

        Streams of this process are ended and forgotten. Raises `StreamsUnavailable`.
        """
        self._mirror.erase(stream_ids)
        # What is on its way would be there again.
        async with self._mirror.still():
            owners = await self._logs.erase(list(stream_ids))
        others = {each: owner for each, owner in owners.items() if owner != self._logs.process}
        if messages := [(owner, f"erase {each}") for each, owner in others.items() if owner]:
            await self._logs.send(messages)
        return set(owners)

    async def holder(self, claim: Claim) -> Holder | None:
        """The stream that *claim* has. Raises `StreamsUnavailable`."""
        return await self._logs.holder(claim)

    async def find(self, stream_id: str, user_id: str, after: int, how: How) -> Readable | None:
        """The stream of that id, if it is *user_id*'s, with *after* events or all it has.

        Its process may have told a reader more than it has copied yet; that is waited for, until it
        is here, or the process turns out to be gone and the stream is lost. Raises
        `StreamsUnavailable`, also if neither happened in time.
        """
        stream = await self._following.find(stream_id, user_id, how)
        if stream is None:
            return None
        if after > len(stream.log) and not stream.log.ended:
            await _reach(stream, after, self._catch_up)
        if stream.lost and after >= len(stream.log):
            # It has what others are told as the end here, or more: events that were copied nowhere.
            return lost(stream_id, after)
        return stream

    async def stop(self, stream_id: str, user_id: str) -> bool:
        """Ask its process to stop a stream; whether there is one. Raises `StreamsUnavailable`."""
        snapshot = await self._logs.load(stream_id)
        if snapshot is None or snapshot.user_id != user_id:
            return False
        if snapshot.state == "running":
            await self._logs.send([(snapshot.process, f"stop {stream_id}")])
        return True

    async def keep_lease(self) -> None:
        """Say again and again that this process lives, until cancelled."""
        while True:
            try:
                if not await self._logs.renew():
                    # Redis is new, or was away: it may have forgotten more than the lease.
                    self._mirror.doubt()
            except StreamsUnavailable:
                self._mirror.doubt()
            await asyncio.sleep(_RENEW)

    async def receive(self) -> None:
        """Do what others ask of this process, until cancelled."""
        while True:
            try:
                messages = await self._logs.receive(wait=_INBOX_WAIT)
            except StreamsUnavailable:
                await asyncio.sleep(_RENEW)
                continue
            for message in messages:
                self._obey(message)

    def _obey(self, message: str) -> None:
        verb, stream_id, *more = message.split(" ")
        if self._inbox is None:
            return
        if verb == "stop":
            self._inbox.stop_for_others(stream_id)
        elif verb == "erase":
            # It may have been copied again in between.
            self._mirror.withdraw(stream_id, None)
            self._inbox.erase_for_others(stream_id)
            self._mirror.erase([stream_id])
        else:
            how = cast(How, more[0]) if more and more[0] else None
            self._inbox.read_by_others(stream_id, how)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep everything going while the block runs; leaving it copies what is left."""
        tasks = [
            asyncio.create_task(coroutine, name=f"shared streams: {name}")
            for name, coroutine in (
                ("mirror", self._mirror.run()),
                ("tail", self._following.tail()),
                ("watch", self._following.watch()),
                ("lease", self.keep_lease()),
                ("inbox", self.receive()),
            )
        ]
        for task in tasks:
            task.add_done_callback(_report_failure)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            try:
                async with asyncio.timeout(_CLOSE):
                    await self._mirror.flush()
                    await self._logs.leave()
            except (StreamsUnavailable, TimeoutError):
                logger.warning("Streams could not be shared")


@asynccontextmanager
async def open_shared_streams(url: str, *, retention: float) -> AsyncIterator[RedisStreams]:
    """Shared streams by the Redis at *url* while the block runs; it need not be there yet."""
    async with open_redis_logs(
        url, process=secrets.token_hex(8), lease=LEASE, retention=retention
    ) as logs:
        shared = RedisStreams(logs)
        async with shared.running():
            yield shared


class _Arrival:
    """Notices that a log has reached a length or its end."""

    def __init__(self, stream: DistantStream, after: int) -> None:
        self.happened = asyncio.Event()
        self._stream = stream
        self._after = after

    def wake(self) -> None:
        if len(self._stream.log) >= self._after or self._stream.log.ended:
            self.happened.set()


async def _reach(stream: DistantStream, after: int, limit: float) -> None:
    """Wait until *stream* has *after* events or has ended. Raises `StreamsUnavailable`."""
    arrival = _Arrival(stream, after)
    with stream.watched(arrival):
        try:
            async with asyncio.timeout(limit):
                await arrival.happened.wait()
        except TimeoutError as exc:
            raise StreamsUnavailable(retry_after=1) from exc


def _report_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (exc := task.exception()):
        logger.opt(exception=exc).bind(task=task.get_name()).critical("Shared streams have stopped")
