"""The archive: resumable streams in the database, so that a restart loses neither answer nor claim."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
from databases import Database
from loguru import logger

from services import sse
from services.chat_stream import ChatStream
from services.errors import StreamsUnavailable
from services.stream_store import Claim, Holder, StoredStream

# Longer than any answer runs: until then its end may still be stored.
RUNNING: Final = 3_600.0
PENDING: Final = 67_108_864  # bytes that wait for the database; beyond, the oldest are dropped
_SWEEP: Final = 60.0
_BACK_OFF: Final = 1.0
_CLOSE: Final = 5.0
_READ: Final = 5.0
_SLICE: Final = 16_777_216

_FAILURES = (OSError, TimeoutError, sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError)

_SAVE = (
    "INSERT INTO streams (id, user_id, session_id, claim, digest, frames, expires_at)"
    " VALUES (:id, :user_id, :session_id, :claim, :digest, :frames, :expires_at)"
    " ON CONFLICT (id) DO UPDATE SET frames = excluded.frames, expires_at = excluded.expires_at"
)


@dataclass(frozen=True, slots=True)
class _Row:
    id: str
    user_id: str
    session_id: str | None
    claim: str | None
    digest: bytes | None
    frames: bytes | None
    expires_at: float

    @property
    def size(self) -> int:
        return len(self.frames or b"")


class StreamArchive:
    """Writes behind, from one task; what still waits to be written is found all the same.

    *retention*, in seconds, is how long an ended stream is kept.
    """

    def __init__(self, database: Database, *, retention: float) -> None:
        self._database = database
        self._retention = retention
        self._pending: dict[str, _Row] = {}  # oldest first
        self._pending_bytes = 0
        self._claims: dict[str, tuple[Holder, float]] = {}
        self._claim_of: dict[str, Claim] = {}  # of streams that run here
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()

    def opened(self, stream: ChatStream, claim: Claim | None) -> None:
        """Remember that *stream* runs."""
        if claim is not None:
            self._claim_of[stream.id] = claim
        self._put(stream, None, time.time() + RUNNING)

    def ended(self, stream: ChatStream) -> None:
        """Remember *stream* with its frames."""
        frames, _ = stream.log.read(0, limit=stream.log.size)
        self._put(stream, frames, time.time() + self._retention)
        self._claim_of.pop(stream.id, None)

    def holder(self, claim: Claim) -> Holder | None:
        """The stream that *claim* had; a claim never waits for the database."""
        holder, expires_at = self._claims.get(claim.name, (None, 0.0))
        return holder if expires_at > time.time() else None

    async def find(self, stream_id: str, user_id: str) -> StoredStream | None:
        """The stream of that id, if it is *user_id*'s. Raises `StreamsUnavailable`."""
        row = self._pending.get(stream_id)
        if row is not None:
            owner, frames, expires_at = row.user_id, row.frames, row.expires_at
        else:
            found = await self._fetch(stream_id)
            if found is None:
                return None
            owner, frames, expires_at = found["user_id"], found["frames"], found["expires_at"]
        if owner != user_id or expires_at <= time.time():
            return None
        return StoredStream(None if frames is None else sse.split(bytes(frames)))

    async def of(self, user_id: str, session_id: str | None) -> set[str]:
        """The ids of a user's streams, or of a session's. Raises `StreamsUnavailable`."""
        waiting = {
            row.id
            for row in self._pending.values()
            if row.user_id == user_id and session_id in (None, row.session_id)
        }
        sql, values = "SELECT id FROM streams WHERE user_id = :user_id", {"user_id": user_id}
        if session_id is not None:
            sql, values = f"{sql} AND session_id = :session_id", values | {"session_id": session_id}
        with _unavailable():
            async with asyncio.timeout(_READ):
                rows = await self._database.fetch_all(sql, values)
        return waiting | {row["id"] for row in rows}

    def forget(self, stream_id: str, user_id: str) -> None:
        """Erase a stream as soon as possible, and its claim. Never blocks or raises."""
        for name in [
            name for name, (held, _) in self._claims.items() if held.stream_id == stream_id
        ]:
            del self._claims[name]
        # Written over what may be on its way, and swept with what has expired.
        self._wait_for_write(_Row(stream_id, user_id, None, None, None, None, 0.0))

    async def erase(self, stream_ids: Iterable[str], user_id: str) -> None:
        """Erase streams of a user, and their claims. Raises `StreamsUnavailable`."""
        for stream_id in stream_ids:
            self.forget(stream_id, user_id)
        with _unavailable():
            async with asyncio.timeout(_READ), self._writing:
                await self._flush()
                await self._sweep()

    async def load(self) -> None:
        """Learn the claims of earlier processes. Raises what the database raises."""
        rows = await self._database.fetch_all(
            "SELECT id, claim, digest, expires_at FROM streams"
            " WHERE claim IS NOT NULL AND expires_at > :now",
            {"now": time.time()},
        )
        for row in rows:
            holder = Holder(row["id"], bytes(row["digest"]))
            self._claims[row["claim"]] = (holder, row["expires_at"])

    async def write(self) -> None:
        """Write what comes, until cancelled; an outage of the database is waited out."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP):
                    await self._changed.wait()
            self._changed.clear()
            try:
                async with self._writing:
                    await self._flush()
                    await self._sweep()
            except _FAILURES as exc:
                logger.bind(reason=type(exc).__name__, waiting=len(self._pending)).warning(
                    "Streams could not be archived"
                )
                self._changed.set()
                await asyncio.sleep(_BACK_OFF)

    async def close(self, writer: asyncio.Task[None]) -> None:
        """End *writer* between two writes, since a query's thread outlives its task; write the rest."""
        try:
            async with asyncio.timeout(_CLOSE), self._writing:
                writer.cancel()
                await self._flush()
        except _FAILURES as exc:
            logger.bind(reason=type(exc).__name__, lost=len(self._pending)).error(
                "Streams could not be archived"
            )
        writer.cancel()
        await asyncio.wait([writer])

    async def _flush(self) -> None:
        while self._pending:
            rows: list[_Row] = []
            size = 0
            for row in self._pending.values():
                rows.append(row)
                size += row.size
                if size > _SLICE:
                    break
            async with self._database.transaction():
                for row in rows:
                    await self._database.execute(_SAVE, _values(row))
            for row in rows:
                # It may have ended while its beginning was written.
                if self._pending.get(row.id) is row:
                    del self._pending[row.id]
                    self._pending_bytes -= row.size

    def _put(self, stream: ChatStream, frames: bytes | None, expires_at: float) -> None:
        claim = self._claim_of.get(stream.id)
        name, digest = (claim.name, claim.digest) if claim else (None, None)
        turn = stream.turn
        row = _Row(stream.id, turn.user_id, turn.session_id, name, digest, frames, expires_at)
        if name is not None and digest is not None:
            self._claims[name] = (Holder(stream.id, digest), expires_at)
        self._wait_for_write(row)

    def _wait_for_write(self, row: _Row) -> None:
        if before := self._pending.pop(row.id, None):
            self._pending_bytes -= before.size
        self._pending[row.id] = row
        self._pending_bytes += row.size
        while self._pending_bytes > PENDING:
            dropped = self._pending.pop(next(iter(self._pending)))
            self._pending_bytes -= dropped.size
            logger.bind(stream_id=dropped.id).warning("Stream dropped from the archive")
        self._changed.set()

    async def _fetch(self, stream_id: str) -> Any:
        with _unavailable():
            async with asyncio.timeout(_READ):
                return await self._database.fetch_one(
                    "SELECT user_id, frames, expires_at FROM streams WHERE id = :id",
                    {"id": stream_id},
                )

    async def _sweep(self) -> None:
        now = time.time()
        for name in [name for name, (_, expires_at) in self._claims.items() if expires_at <= now]:
            del self._claims[name]
        await self._database.execute("DELETE FROM streams WHERE expires_at <= :now", {"now": now})


@asynccontextmanager
async def open_archive(database: Database, *, retention: float) -> AsyncIterator[StreamArchive]:
    """An archive in *database* that writes while the block runs; leaving it writes what waits."""
    archive = StreamArchive(database, retention=retention)
    await archive.load()
    writer = asyncio.create_task(archive.write(), name="stream archive")
    try:
        yield archive
    finally:
        await archive.close(writer)


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except _FAILURES as exc:
        raise StreamsUnavailable(retry_after=1) from exc


def _values(row: _Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "user_id": row.user_id,
        "session_id": row.session_id,
        "claim": row.claim,
        "digest": row.digest,
        "frames": row.frames,
        "expires_at": row.expires_at,
    }
