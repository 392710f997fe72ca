"""Where a resumable stream is: in this process, in another one, stored since its end, or lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import Final, TypeVar

from loguru import logger

from services.errors import Conflict, StreamsUnavailable
from services.streaming.chat_stream import ChatStream
from services.streaming.log import Readable
from services.streaming.register import Register
from services.streaming.replay import lost, stored
from services.streaming.store import Archive, Claim, Holder, How, SharedStreams

T = TypeVar("T")

_ASK_AGAIN: Final = 0.2


class Whereabouts:
    """Finds and stops streams, by id or by claim.

    *register* has those of this process, *archive* knows those of earlier ones, *shared* those of
    others. *refill* is how long, in seconds, another process may take to tell a Redis that forgot
    them of its streams.
    """

    def __init__(
        self,
        register: Register,
        archive: Archive | None,
        shared: SharedStreams | None,
        *,
        refill: float,
    ) -> None:
        self._register = register
        self._archive = archive
        self._shared = shared
        self._refill = refill

    async def find(
        self, stream_id: str, user_id: str, *, after: int = 0, how: How = "resumed"
    ) -> Readable | None:
        """The resumable stream of that id, if it is *user_id*'s and not yet forgotten.

        It has at least *after* events, unless nobody ever had so many. Raises `StreamsUnavailable`.
        """
        if here := self._here(stream_id, user_id):
            count_reader(here, how)
            return here
        unavailable: StreamsUnavailable | None = None
        if self._shared is not None:
            try:
                if found := await self._shared.find(stream_id, user_id, after, how):
                    return found
            except StreamsUnavailable as exc:
                unavailable = exc  # the archive may know it all the same
        row = None if self._archive is None else await self._archive.find(stream_id, user_id)
        if row is not None and row.frames is not None:
            return stored(stream_id, row.frames)
        if unavailable is not None:
            raise unavailable
        if row is None:
            return None
        if (shared := self._shared) and (
            found := await self._once_known(partial(shared.find, stream_id, user_id, after, how))
        ):
            return found
        return lost(stream_id, after)

    async def stop(self, stream_id: str, user_id: str) -> bool:
        """Stop an answer wherever it runs; whether there is one. Idempotent, also after its end.

        Raises `StreamsUnavailable`.
        """
        if here := self._here(stream_id, user_id):
            here.stop("stopped")
            return True
        if self._shared is not None and await self._shared.stop(stream_id, user_id):
            return True
        row = None if self._archive is None else await self._archive.find(stream_id, user_id)
        if row is None:
            return False
        if row.frames is not None or self._shared is None:
            return True
        if await self._once_known(partial(self._shared.stop, stream_id, user_id)):
            return True
        raise StreamsUnavailable(retry_after=1)  # nobody was told to stop

    async def known(self, claim: Claim, after: int) -> Readable | None:
        """The stream that holds *claim*, as far as this process and the database know.

        Raises `Conflict` if it was claimed for something else, and `StreamsUnavailable`.
        """
        if known := self._register.claimed(claim.name):
            digest, stream = known
            if digest != claim.digest:
                raise Conflict
            count_reader(stream, "replayed")
            return stream
        holder = None if self._archive is None else self._archive.holder(claim)
        return await self.held(holder, claim, after)

    async def known_elsewhere(self, claim: Claim, after: int) -> Readable | None:
        """The stream of another process that holds *claim*. Raises what `known` does."""
        holder = None if self._shared is None else await self._shared.holder(claim)
        return await self.held(holder, claim, after)

    async def held(self, holder: Holder | None, claim: Claim | None, after: int) -> Readable | None:
        """The stream of *holder*, which holds *claim*, if it is not forgotten. Raises `Conflict`."""
        if holder is None or claim is None:
            return None
        if holder.digest != claim.digest:
            raise Conflict
        return await self.find(holder.stream_id, claim.user_id, after=after, how="replayed")

    def _here(self, stream_id: str, user_id: str) -> ChatStream | None:
        stream = self._register.find(stream_id)
        return stream if stream is not None and stream.turn.user_id == user_id else None

    async def _once_known(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What *ask* says once it says something, but not for ever. Raises `StreamsUnavailable`.

        A stream that began, and whose end nobody has stored, may run in a process that has not yet
        told a Redis that forgot it.
        """
        deadline = monotonic() + self._refill
        while not (answer := await ask()) and monotonic() < deadline:  # noqa: ASYNC110 - Redis tells nobody
            await asyncio.sleep(_ASK_AGAIN)
        return answer


def count_reader(stream: ChatStream, how: How) -> None:
    """Count one more reader. What comes after the end is only logged: the row is written."""
    if stream.log.ended:
        logger.bind(request_id=stream.turn.request_id, how=how).info("Stream read again")
    elif how == "resumed":
        stream.report.resumed += 1
    else:
        stream.report.idempotent_replays += 1
