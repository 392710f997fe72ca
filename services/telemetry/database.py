"""Telemetry rows, written to the database in batches, behind the backs of the streams."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any, Final
from uuid import uuid4

import asyncpg
import msgspec
from databases import Database
from loguru import logger

from services.dialect import dialect_of, utc_text
from services.pricing import plain
from services.telemetry import TelemetryEvent, Value

# One statement with one argument, whatever the size of the batch: a batch is written completely or
# not at all, and costs one round trip. A batch whose answer was lost is sent again and changes nothing.
_INSERT: Final = {
    "postgres": """
        INSERT INTO telemetry_events
            (id, type, created_at, request_id, user_id, session_id, payload_json)
        SELECT id, type, created_at, request_id, user_id, session_id, payload_json
        FROM json_to_recordset(CAST(:rows AS json)) AS row
            (id uuid, type text, created_at timestamptz, request_id text, user_id text,
             session_id text, payload_json jsonb)
        ON CONFLICT (id) DO NOTHING
        """,
    "sqlite": """
        INSERT INTO telemetry_events
            (id, type, created_at, request_id, user_id, session_id, payload_json)
        SELECT json_extract(value, '$.id'), json_extract(value, '$.type'),
            json_extract(value, '$.created_at'), json_extract(value, '$.request_id'),
            json_extract(value, '$.user_id'), json_extract(value, '$.session_id'),
            json_extract(value, '$.payload_json')
        FROM json_each(:rows) WHERE true
        ON CONFLICT (id) DO NOTHING
        """,
}

# The row is at fault, not the database: sent again, it is refused again.
_REFUSALS: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
)


class DatabaseSink:
    """Writes telemetry events as rows of `telemetry_events`, each exactly once.

    Rows wait in memory, *capacity* at most, while the database is away, and are dropped and counted
    beyond that. Durations are seconds: *linger* is how long a row waits for others to share
    its batch, *retry* and *retry_at_most* bound the waits between attempts, *patience* is how
    long one attempt may take, and *close* how long the last rows may at the end. Then the attempt under
    way has *stop* to end by itself: SQLite's driver does, after five seconds with a lock, and cancelled
    while it connects it would leave a thread behind; Postgres' may not, when the network is gone.
    """

    def __init__(
        self,
        database: Database,
        *,
        capacity: int = 10_000,
        batch: int = 200,
        linger: float = 0.2,
        retry: float = 0.5,
        retry_at_most: float = 15.0,
        patience: float = 10.0,
        close: float = 5.0,
        stop: float = 6.0,
    ) -> None:
        self._database = database
        self._statement = _INSERT[dialect_of(database)]
        self._capacity = capacity
        self._batch = batch
        self._linger = linger
        self._retry = retry
        self._retry_at_most = retry_at_most
        self._patience = patience
        self._close = close
        self._stop = stop
        self._waiting: deque[TelemetryEvent] = deque()
        self._in_hand = 0
        self._dropped = 0
        self._dropped_logged = 0
        self._refusal: str | None = None
        self._away = False
        self._open = False
        self._something = asyncio.Event()
        self._closing = asyncio.Event()

    @property
    def depth(self) -> int:
        """Rows that are not in the database yet."""
        return len(self._waiting) + self._in_hand

    @property
    def dropped(self) -> int:
        """Rows that will never be."""
        return self._dropped

    def record(self, event: TelemetryEvent) -> None:
        """Take *event*. Never blocks, never raises; a full buffer or a closed sink counts it as dropped."""
        if not self._open or self.depth >= self._capacity:
            self._dropped += 1
            return
        self._waiting.append(event)
        self._something.set()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[DatabaseSink]:
        """Write what is recorded while the block runs; at its end what is left, within the patience for it."""
        self._open = True
        # Not a TaskGroup: it would wrap in a group whatever the block raises.
        writer = asyncio.create_task(self._write(), name="telemetry writer")
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
                await asyncio.wait({writer})
                self._give_up()

    async def _write(self) -> None:
        while self._waiting or not self._closing.is_set():
            await self._something.wait()
            self._something.clear()
            if not self._closing.is_set():
                await self._pause(self._linger)
            while self._waiting:
                events = [
                    self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch))
                ]
                self._in_hand = len(events)
                await self._deliver(self._encode_all(events))
            self._log_dropped()

    def _encode_all(self, events: Sequence[TelemetryEvent]) -> list[bytes]:
        rows = []
        for event in events:
            try:
                rows.append(_encode(event))
            except (TypeError, ValueError, OverflowError) as exc:
                self._refuse(exc)
        return rows

    async def _deliver(self, rows: Sequence[bytes]) -> None:
        """Write *rows*, however often it takes."""
        wait = self._retry
        while rows:
            try:
                await self._attempt(rows)
            except _REFUSALS as exc:
                await self._deliver_apart(rows, exc)
                return
            except Exception as exc:
                # Whatever the driver raises: if the writer ended, nobody would notice.
                self._log_outage(exc)
                await self._pause(wait)
                wait = min(wait * 2, self._retry_at_most)
            else:
                self._in_hand -= len(rows)
                self._log_recovery()
                return

    async def _deliver_apart(self, rows: Sequence[bytes], refusal: Exception) -> None:
        """Find the row that was refused by halving, so that it takes no other with it."""
        if len(rows) == 1:
            self._refuse(refusal)
            return
        half = len(rows) // 2
        await self._deliver(rows[:half])
        await self._deliver(rows[half:])

    async def _attempt(self, rows: Sequence[bytes]) -> None:
        text = (b"[" + b",".join(rows) + b"]").decode()
        # A task of its own: `databases` keeps a connection per task, and if giving one back
        # failed, would hand that one out to this task for ever.
        insert = asyncio.create_task(self._database.execute(self._statement, {"rows": text}))
        try:
            if not (await asyncio.wait({insert}, timeout=self._patience))[0]:
                # The driver tells the server to stop, which takes as long as the network pleases.
                insert.cancel()
                self._log_outage(TimeoutError(f"no answer in {self._patience} s"))
                await asyncio.wait({insert})
        except asyncio.CancelledError:
            insert.add_done_callback(_look_at)
            if not (await asyncio.wait({insert}, timeout=self._stop))[0]:
                insert.cancel()
            raise
        if insert.cancelled():
            raise TimeoutError
        insert.result()

    async def _pause(self, duration: float) -> None:
        """Wait, but not long once the sink is closing."""
        if self._closing.is_set():
            await asyncio.sleep(min(duration, self._retry))
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(duration):
                await self._closing.wait()

    def _give_up(self) -> None:
        self._dropped += self.depth
        self._waiting.clear()
        self._in_hand = 0
        self._log_dropped()

    def _refuse(self, refusal: Exception) -> None:
        self._in_hand -= 1
        self._dropped += 1
        self._refusal = type(refusal).__name__

    def _log_outage(self, exc: Exception) -> None:
        if not self._away:
            self._away = True
            logger.bind(error=type(exc).__name__, reason=str(exc), waiting=self.depth).warning(
                "Telemetry database unavailable"
            )

    def _log_recovery(self) -> None:
        if self._away:
            self._away = False
            logger.bind(waiting=self.depth, dropped=self._dropped).info(
                "Telemetry database available again"
            )

    def _log_dropped(self) -> None:
        if new := self._dropped - self._dropped_logged:
            self._dropped_logged = self._dropped
            logger.bind(dropped=new, refusal=self._refusal).warning("Telemetry rows dropped")
            self._refusal = None


def _look_at(task: asyncio.Task[Any]) -> None:
    """Take note of how *task* ended, or asyncio logs that nobody did."""
    if not task.cancelled():
        task.exception()


def _encode(event: TelemetryEvent) -> bytes:
    return msgspec.json.encode(
        {
            "id": str(uuid4()),
            "type": event.type,
            "created_at": utc_text(event.created_at),
            "request_id": event.request_id,
            "user_id": event.user_id,
            "session_id": event.session_id,
            "payload_json": {name: _number(value) for name, value in event.payload.items()},
        }
    )


def _number(value: Value) -> Value | msgspec.Raw:
    return msgspec.Raw(plain(value).encode()) if isinstance(value, Decimal) else value
