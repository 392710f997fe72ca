"""All running answers of this process: admit, start, erase, drain."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias
from weakref import WeakValueDictionary

from loguru import logger

from services.errors import Draining, Overloaded, StreamsUnavailable
from services.report import Accountant, Report
from services.streaming.chat_stream import Answer, ChatStream
from services.streaming.distant_readers import DistantReaders
from services.streaming.hooks import EventHook
from services.streaming.log import Readable
from services.streaming.register import Register
from services.streaming.replay import lost
from services.streaming.starts import Starts
from services.streaming.store import Archive, Claim, How, SharedStreams
from services.streaming.whereabouts import Whereabouts, count_reader
from services.turn import Turn

# Called once when a new answer has ended, with what it was; None: it never started. Never raises.
Release: TypeAlias = Callable[[Report | None], None]
# Lets a new answer start, or refuses with a `ServiceError`.
Admit: TypeAlias = Callable[[Turn], Awaitable[Release]]


class TurnObserver(Protocol):
    """Told of every finished turn."""

    def __call__(self, stream: ChatStream) -> None:
        """Called after the last frame. Never blocks, never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Policy:
    """How streams live; times in seconds, sizes in bytes.

    *refill* is how long a process may take to tell a Redis that forgot them of its streams.
    """

    grace: float = 30.0
    retention: float = 300.0
    max_stream_bytes: int = 4_194_304
    max_log_bytes: int = 268_435_456
    refill: float = 4.0


class Streams:
    """Owns every answer that runs, and every finished one that can still be read.

    *observers* learn of every end. *archive* knows the streams of earlier processes, *shared* those
    of others.
    """

    def __init__(
        self,
        answer: Answer,
        accountant: Accountant,
        *,
        default_model: str,
        hooks: Sequence[EventHook] = (),
        observers: Sequence[TurnObserver] = (),
        policy: Policy | None = None,
        archive: Archive | None = None,
        shared: SharedStreams | None = None,
    ) -> None:
        self._answer = answer
        self._accountant = accountant
        self._default_model = default_model
        self._hooks = tuple(hooks)
        self._observers = tuple(observers)
        self._policy = policy or Policy()
        self._archive = archive
        self._shared = shared
        self._running: dict[ChatStream, Release] = {}
        self._tidying: set[asyncio.Task[None]] = set()  # of answers that have ended
        self._register = Register(
            retention=self._policy.retention,
            max_bytes=self._policy.max_log_bytes,
            on_forget=self._forgotten,
        )
        self._whereabouts = Whereabouts(self._register, archive, shared, refill=self._policy.refill)
        self._starts = Starts()
        self._opening: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._distant = DistantReaders()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining: asyncio.Future[None] | None = None
        if shared is not None:
            shared.serve(self)

    def __len__(self) -> int:
        return len(self._running)

    @property
    def draining(self) -> bool:
        """Whether the process is about to stop."""
        return self._draining is not None

    @property
    def held_bytes(self) -> int:
        """How much all logs hold together, in bytes."""
        return self._register.room.held

    async def open(
        self, turn: Turn, admit: Admit, claim: Claim | None = None, *, after: int = 0
    ) -> Readable:
        """A stream for *turn*, not started; or, for a known *claim*, the stream it already has.

        *admit* is asked for a new one only, and its answer called when that has ended.
        A client that has *after* events of a stream that nobody knows gets its end as a lost one,
        never a second answer. The caller attaches a reader before it awaits anything, so that a
        client that leaves is noticed. Raises `Draining`, `Overloaded`, `Conflict`,
        `StreamsUnavailable`, and what the admission raises.
        """
        if claim is None:
            return await self._create(turn, admit)
        # Two requests with one key may race each other: the second waits for the first.
        lock = self._opening.setdefault(claim.name, asyncio.Lock())
        async with lock:
            if found := await self._whereabouts.known(claim, after):
                return found
            if not after:
                return await self._create(turn, admit, claim)
            return await self._whereabouts.known_elsewhere(claim, after) or lost("", after)

    def start(self, stream: Readable) -> None:
        """Begin to answer, now or soon, if that is done here and has not happened yet."""
        if not isinstance(stream, ChatStream) or stream.task is not None or stream.log.ended:
            return  # nobody who waits to begin has to wait for nothing
        self._starts.add(partial(stream.start, self._answer))

    async def find(self, stream_id: str, user_id: str, *, after: int = 0) -> Readable | None:
        """The resumable stream of that id, see `Whereabouts.find`. Raises `StreamsUnavailable`."""
        return await self._whereabouts.find(stream_id, user_id, after=after)

    async def stop(self, stream_id: str, user_id: str) -> bool:
        """Stop an answer wherever it runs, see `Whereabouts.stop`. Raises `StreamsUnavailable`."""
        return await self._whereabouts.stop(stream_id, user_id)

    def stop_for_others(self, stream_id: str) -> None:
        """Stop an answer for another process, which knows whose it is."""
        if stream := self._register.find(stream_id):
            stream.stop("stopped")

    def read_by_others(self, stream_id: str, how: How | None) -> None:
        """Keep an answer going for a reader in another process, for as long as it says so."""
        stream = self._register.find(stream_id)
        if stream is None or stream.log.ended:
            return
        if how is not None:
            count_reader(stream, how)
        self._distant.renew(stream)
        # Its first reader may have left before it could begin.
        self.start(stream)

    async def erase(self, user_id: str, session_id: str | None = None) -> bool:
        """Erase what finished streams of a session, or all of a user, have said, wherever it is kept.

        Whether there was any. A stream that runs goes on, marked as `erased` if it runs here. Raises
        `StreamsUnavailable`; what was erased by then stays so.
        """
        # First: one that ends while the rest is awaited would be kept, and nobody would erase it.
        running = [
            each
            for each in self._running
            if each.turn.user_id == user_id and session_id in (None, each.turn.session_id)
        ]
        for each in running:
            each.erased = True
        ended = self._register.ended_of(user_id, session_id)
        stream_ids = {each.id for each in ended}
        if self._archive is not None:
            stream_ids |= await self._archive.of(user_id, session_id)
        stream_ids -= {each.id for each in self._running}
        if not stream_ids:
            return bool(running)
        for stream in ended:
            self._register.forget(stream)
        if self._shared is not None:
            stream_ids = await self._shared.erase(stream_ids)
        if self._archive is not None:
            await self._archive.erase(stream_ids, user_id)
        return bool(stream_ids or running)

    def erase_for_others(self, stream_id: str) -> None:
        """Erase a stream that another process has erased, which knows whose it is."""
        stream = self._register.find(stream_id)
        if stream is not None and self._register.forget(stream) and self._archive is not None:
            self._archive.forget([stream_id], stream.turn.user_id)

    async def drain(self, patience: float) -> None:
        """Admit nobody, give running streams *patience* seconds, then end the rest.

        Returns when every stream has ended and every task is done. Calling it again joins the
        first call, whatever its *patience*.
        """
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain(patience))
        await asyncio.shield(self._draining)

    async def idle(self) -> None:
        """Return when no stream runs."""
        await self._idle.wait()

    async def _create(self, turn: Turn, admit: Admit, claim: Claim | None = None) -> Readable:
        self._refuse_if_draining()
        if self._register.room.full:
            raise Overloaded(retry_after=1)
        # A plain stream can't be asked for again, so it needs no name.
        stream_id = f"str_{secrets.token_urlsafe(15)}" if turn.resumable else ""
        shared = self._shared if turn.resumable else None
        if shared is None:
            return await self._admitted(stream_id, turn, admit, claim)
        announced = True
        try:
            holder = await shared.register(stream_id, turn.user_id, claim)
        except StreamsUnavailable:
            # Better answered twice in the worst case than not at all: without the others, this
            # process still knows its own claims.
            logger.bind(request_id=turn.request_id).warning("Shared streams unavailable")
            holder, announced = None, False
        try:
            if found := await self._whereabouts.held(holder, claim, 0):
                return found
            stream = await self._admitted(stream_id, turn, admit, claim)
        except BaseException:
            shared.withdraw(stream_id, claim)
            raise
        shared.publish(stream, claim, announced=announced)
        return stream

    async def _admitted(
        self, stream_id: str, turn: Turn, admit: Admit, claim: Claim | None
    ) -> ChatStream:
        report = Report(turn, self._accountant)
        release = await admit(turn)
        try:
            self._refuse_if_draining()
        except Draining:
            release(None)
            raise
        stream = ChatStream(
            stream_id,
            report,
            default_model=self._default_model,
            hooks=self._hooks,
            grace=self._policy.grace if turn.resumable else 0.0,
            max_bytes=self._policy.max_stream_bytes,
            room=self._register.room,
            on_end=self._ended,
        )
        self._running[stream] = release
        self._idle.clear()
        if turn.resumable:
            self._register.add(stream, claim)
            stream.expect_reader()
            if self._archive is not None:
                self._archive.opened(stream, claim)
        return stream

    def _refuse_if_draining(self) -> None:
        if self.draining:
            raise Draining(retry_after=1)

    def _ended(self, stream: ChatStream) -> None:
        self._running.pop(stream)(stream.report)
        if stream.task is not None and not stream.task.done():
            self._tidying.add(stream.task)
            stream.task.add_done_callback(self._tidying.discard)
        if not self._running:
            self._idle.set()
        for observe in self._observers:
            try:
                observe(stream)
            except Exception:  # the others are told all the same
                logger.exception("Observer failed")
        turn = stream.turn
        logger.bind(
            request_id=turn.request_id,
            user_id=turn.user_id,
            session_id=turn.session_id,
            **stream.report.fields(),
        ).info("Chat completion finished")
        if stream.resumable:
            if self._archive is not None:
                self._archive.ended(stream)
            self._register.ended(stream)

    def _forgotten(self, stream: ChatStream) -> None:
        if self._shared is not None:
            self._shared.forget(stream)

    async def _drain(self, patience: float) -> None:
        logger.bind(streams=len(self._running)).info("Draining")
        try:
            async with asyncio.timeout(patience):
                await self.idle()
        except TimeoutError:
            for stream in tuple(self._running):
                stream.stop("drained")
            await self.idle()
        # What is left only tidies a socket after its answer has ended.
        for task in tuple(self._tidying):
            task.cancel()
        if self._tidying:
            await asyncio.wait(self._tidying)
        self._distant.close()
        logger.info("Drained")
