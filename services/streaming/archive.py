"""The archive: resumable streams in the database, so that a restart loses neither answer nor claim."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from databases import Database

from services.errors import StreamsUnavailable, Unavailable
from services.storage.outages import outages_translated
from services.storage.transaction import transaction
from services.storage.write_behind import Pace, WriteBehind
from services.streaming import sse
from services.streaming.chat_stream import ChatStream
from services.streaming.store import Claim, Holder, StoredStream

# Longer than any answer runs: until then its end may still be stored.
RUNNING: Final = 3_600.0
_SWEEP: Final = 60.0
_READ: Final = 5.0
# In bytes, and not in rows: an answer may have some, or some millions. A claim that was not written
# is lost with the process, so it does not linger for long.
_PACE: Final = Pace(capacity=67_108_864, batch=16_777_216, linger=0.02, attempt=60.0)
_ROW: Final = 512

_SAVE = (
    "INSERT INTO streams (id, user_id, session_id, claim, digest, frames, expires_at)"
    " VALUES (:id, :user_id, :session_id, :claim, :digest, :frames, :expires_at)"
    " ON CONFLICT (id) DO UPDATE SET frames = excluded.frames, expires_at = excluded.expires_at"
)

_ERASE_EXPIRED = "DELETE FROM streams WHERE expires_at <= :now"


@dataclass(frozen=True, slots=True)
class _Row:
    id: str
    user_id: str
    session_id: str | None
    claim: str | None
    digest: bytes | None
    frames: bytes | None
    expires_at: float


class StreamArchive:
    """Writes behind; what still waits to be written is found all the same.

    *retention*, in seconds, is how long an ended stream is kept.
    """

    def __init__(self, database: Database, *, retention: float) -> None:
        self._database = database
        self._retention = retention
        # None is the order to erase what has expired.
        self._rows: WriteBehind[_Row | None] = WriteBehind(
            "Stream archive", "Archived streams", self._write, _PACE, weigh=_weight
        )
        self._claims: dict[str, tuple[Holder, float]] = {}
        self._claim_of: dict[str, Claim] = {}  # of streams that run here

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
        row = self._rows.last(lambda row: row is not None and row.id == stream_id)
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
        sql, values = "SELECT id FROM streams WHERE user_id = :user_id", {"user_id": user_id}
        if session_id is not None:
            sql, values = f"{sql} AND session_id = :session_id", values | {"session_id": session_id}
        async with _in_reach():
            await self._rows.written(lambda row: row is not None and row.user_id == user_id)
            rows: list[Any] = await self._database.fetch_all(sql, values)
        return {row["id"] for row in rows}

    def forget(self, stream_ids: Collection[str], user_id: str) -> None:
        """Erase streams of a user as soon as possible, and their claims. Never blocks or raises."""
        for name in [
            name for name, (held, _) in self._claims.items() if held.stream_id in stream_ids
        ]:
            del self._claims[name]
        # Written over what may be on its way, and erased with what has expired.
        for stream_id in stream_ids:
            self._rows.put(_Row(stream_id, user_id, None, None, None, None, 0.0))
        self._rows.put(None)

    async def erase(self, stream_ids: Collection[str], user_id: str) -> None:
        """Do as `forget` does, and wait until it is done. Raises `StreamsUnavailable`."""
        self.forget(stream_ids, user_id)
        async with _in_reach():
            await self._rows.written(lambda row: row is None or row.id in stream_ids)

    async def load(self) -> None:
        """Learn the claims of earlier processes. Raises what the database raises."""
        rows: list[Any] = await self._database.fetch_all(
            "SELECT id, claim, digest, expires_at FROM streams"
            " WHERE claim IS NOT NULL AND expires_at > :now",
            {"now": time.time()},
        )
        for row in rows:
            holder = Holder(row["id"], bytes(row["digest"]))
            self._claims[row["claim"]] = (holder, row["expires_at"])

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[StreamArchive]:
        """Write what comes while the block runs; at its end what is left."""
        async with self._rows.writing():
            sweep = asyncio.create_task(self._sweep(), name="stream archive sweep")
            try:
                yield self
            finally:
                sweep.cancel()

    async def _sweep(self) -> None:
        while True:
            now = time.time()
            expired = [name for name, (_, expires_at) in self._claims.items() if expires_at <= now]
            for name in expired:
                del self._claims[name]
            self._rows.put(None)
            await asyncio.sleep(_SWEEP)

    async def _write(self, rows: Sequence[_Row | None]) -> None:
        # Of a stream that ended soon after it began, only the end.
        latest = {row.id: _values(row) for row in rows if row is not None}
        with outages_translated():
            async with transaction(self._database) as connection:
                await connection.execute_many(_SAVE, list(latest.values()))
                if None in rows:
                    await connection.execute(_ERASE_EXPIRED, {"now": time.time()})

    def _put(self, stream: ChatStream, frames: bytes | None, expires_at: float) -> None:
        claim = self._claim_of.get(stream.id)
        name, digest = (claim.name, claim.digest) if claim else (None, None)
        turn = stream.turn
        row = _Row(stream.id, turn.user_id, turn.session_id, name, digest, frames, expires_at)
        if name is not None and digest is not None:
            self._claims[name] = (Holder(stream.id, digest), expires_at)
        self._rows.put(row)

    async def _fetch(self, stream_id: str) -> Any:
        async with _in_reach():
            return await self._database.fetch_one(
                "SELECT user_id, frames, expires_at FROM streams WHERE id = :id",
                {"id": stream_id},
            )


@asynccontextmanager
async def open_archive(database: Database, *, retention: float) -> AsyncIterator[StreamArchive]:
    """An archive in *database* that writes while the block runs; leaving it writes what waits."""
    archive = StreamArchive(database, retention=retention)
    await archive.load()
    async with archive.writing():
        yield archive


@asynccontextmanager
async def _in_reach() -> AsyncIterator[None]:
    try:
        with outages_translated():
            async with asyncio.timeout(_READ):
                yield
    except Unavailable as exc:
        raise StreamsUnavailable(retry_after=1) from exc


def _weight(row: _Row | None) -> int:
    return _ROW + len(row.frames or b"") if row else _ROW


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
