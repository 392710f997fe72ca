"""All running answers of this process: admit, find, stop, remember for a while, drain."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakValueDictionary

from loguru import logger

from services.chat_stream import Answer, ChatStream, EventHook
from services.errors import Conflict, Draining
from services.report import Accountant, Report
from services.turn import Turn


class Lease(Protocol):
    """A place among the running streams."""

    def release(self, report: Report) -> None:
        """Give the place back; synchronous, never raises."""
        ...


class TurnObserver(Protocol):
    """Told of every finished turn."""

    def __call__(self, stream: ChatStream) -> None:
        """Called after the last frame. Never blocks, never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Claim:
    """An idempotency key and a digest of the request that it stands for."""

    key: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Policy:
    """How streams live; times in seconds, sizes in bytes."""

    grace: float = 30.0
    retention: float = 300.0
    max_stream_bytes: int = 4_194_304
    max_log_bytes: int = 268_435_456


class Streams:
    """Owns every answer that runs, and every finished one that can still be read.

    *admit* reserves a place before the first byte, or refuses with a `ServiceError`; *observers*
    learn of every end.
    """

    def __init__(
        self,
        answer: Answer,
        accountant: Accountant,
        *,
        default_model: str,
        admit: Callable[[Turn], Awaitable[Lease]],
        hooks: Sequence[EventHook] = (),
        observers: Sequence[TurnObserver] = (),
        policy: Policy | None = None,
    ) -> None:
        self._answer = answer
        self._accountant = accountant
        self._default_model = default_model
        self._admit = admit
        self._hooks = tuple(hooks)
        self._observers = tuple(observers)
        self._policy = policy or Policy()
        self._running: dict[ChatStream, Lease] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._kept: dict[str, ChatStream] = {}  # resumable ones by id, oldest first
        self._claims: dict[tuple[str, str], tuple[bytes, ChatStream]] = {}
        self._owned: dict[ChatStream, tuple[str, str]] = {}
        self._finished: dict[ChatStream, asyncio.TimerHandle] = {}  # oldest end first
        self._finished_bytes = 0
        self._opening: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._running)

    @property
    def draining(self) -> bool:
        """Whether the process is about to stop."""
        return self._draining is not None

    async def open(self, turn: Turn, claim: Claim | None = None) -> ChatStream:
        """A stream for *turn*, not started; or, for a known *claim*, the stream it already has.

        The caller attaches a reader before it awaits anything, so that a client that leaves is
        noticed. Raises `Draining`, `Conflict`, and what the admission raises.
        """
        if claim is None:
            return await self._create(turn)
        owned = (turn.user_id, claim.key)
        # Two requests with one key may race each other: the second waits for the first.
        lock = self._opening.setdefault(owned, asyncio.Lock())
        async with lock:
            if known := self._claims.get(owned):
                digest, stream = known
                if digest != claim.digest:
                    raise Conflict
                stream.report.idempotent_replays += 1
                return stream
            stream = await self._create(turn)
            self._claims[owned] = (claim.digest, stream)
            self._owned[stream] = owned
            return stream

    def start(self, stream: ChatStream) -> None:
        """Begin to answer, if that has not happened yet."""
        stream.start(self._answer)
        if stream.task is not None and not stream.task.done():
            self._tasks.add(stream.task)
            stream.task.add_done_callback(self._tasks.discard)

    def find(self, stream_id: str, user_id: str) -> ChatStream | None:
        """The resumable stream of that id, if it is *user_id*'s and not yet forgotten."""
        stream = self._kept.get(stream_id)
        return stream if stream is not None and stream.turn.user_id == user_id else None

    async def idle(self) -> None:
        """Return when no stream runs."""
        await self._idle.wait()

    async def drain(self, patience: float) -> None:
        """Admit nobody, give running streams *patience* seconds, then end the rest.

        Returns when every stream has ended and every task is done. Calling it again joins the
        first call, whatever its *patience*.
        """
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain(patience))
        await asyncio.shield(self._draining)

    async def _create(self, turn: Turn) -> ChatStream:
        if self.draining:
            raise Draining(retry_after=1)
        lease = await self._admit(turn)
        stream = ChatStream(
            f"str_{secrets.token_urlsafe(15)}",
            Report(turn, self._accountant),
            default_model=self._default_model,
            hooks=self._hooks,
            grace=self._policy.grace if turn.resumable else 0.0,
            max_bytes=self._policy.max_stream_bytes,
            on_end=self._ended,
        )
        self._running[stream] = lease
        self._idle.clear()
        if turn.resumable:
            self._kept[stream.id] = stream
        return stream

    def _ended(self, stream: ChatStream) -> None:
        self._running.pop(stream).release(stream.report)
        if not self._running:
            self._idle.set()
        for observe in self._observers:
            try:
                observe(stream)
            except Exception:  # the others are told all the same
                logger.exception("Observer failed")
        log = logger.bind(request_id=stream.turn.request_id, **stream.report.fields())
        log.info("Chat completion finished")
        if stream.turn.resumable:
            self._keep(stream)

    def _keep(self, stream: ChatStream) -> None:
        """Remember a finished log for its retention, or until others need its room."""
        loop = asyncio.get_running_loop()
        expiry = loop.call_later(self._policy.retention, self._forget, stream)
        self._finished[stream] = expiry
        self._finished_bytes += stream.log.size
        while self._finished_bytes > self._policy.max_log_bytes:
            self._forget(next(iter(self._finished)))

    def _forget(self, stream: ChatStream) -> None:
        self._finished.pop(stream).cancel()
        self._finished_bytes -= stream.log.size
        del self._kept[stream.id]
        if owned := self._owned.pop(stream, None):
            del self._claims[owned]

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
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        logger.info("Drained")
