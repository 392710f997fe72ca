"""Telemetry rows, written to the database in batches, behind the backs of the streams."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Final, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import msgspec
from databases import Database

from services.errors import Unavailable
from services.pricing import plain
from services.steps import Steps, in_turns
from services.storage.dialect import dialect_of, utc_text
from services.storage.storable import storable
from services.storage.write_behind import Pace, WriteBehind
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

_PACE: Final = Pace(capacity=10_000, batch=200, linger=0.2, retry=0.5)

# An event has its id before the first attempt to write it.
_Row: TypeAlias = tuple[UUID, TelemetryEvent]


class DatabaseSink:
    """Writes telemetry events as rows of `telemetry_events`, each exactly once."""

    def __init__(self, database: Database, pace: Pace = _PACE) -> None:
        self._database = database
        self._statement = _INSERT[dialect_of(database)]
        self._rows = WriteBehind("Telemetry database", "Telemetry rows", self._insert, pace)

    @property
    def depth(self) -> int:
        """Rows that are not in the database yet."""
        return self._rows.depth

    @property
    def dropped(self) -> int:
        """Rows that will never be."""
        return self._rows.dropped

    def record(self, event: TelemetryEvent) -> None:
        """Take *event*. Never blocks, never raises; a full buffer or a closed sink counts it as dropped."""
        self._rows.put((uuid4(), event))

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[DatabaseSink]:
        """Write what is recorded while the block runs, and at its end, as far as patience goes, what is left."""
        async with self._rows.writing():
            yield self

    async def _insert(self, rows: Sequence[_Row]) -> None:
        text = await in_turns(_encoded(rows))
        try:
            await self._database.execute(self._statement, {"rows": text})
        except _REFUSALS:
            raise
        except Exception as exc:
            # Whatever else the driver raises is no row's fault.
            raise Unavailable from exc


def _encoded(rows: Sequence[_Row]) -> Steps[str]:
    encoded = []
    for row in rows:
        encoded.append(_encode(*row))
        yield
    return (b"[" + b",".join(encoded) + b"]").decode()


def _encode(id_: UUID, event: TelemetryEvent) -> bytes:
    return msgspec.json.encode(
        {
            "id": id_,
            "type": event.type,
            "created_at": utc_text(event.created_at),
            "request_id": event.request_id,
            "user_id": event.user_id,
            "session_id": event.session_id,
            "payload_json": {name: _storable(value) for name, value in event.payload.items()},
        }
    )


def _storable(value: Value) -> Value | msgspec.Raw:
    match value:
        case Decimal():
            return msgspec.Raw(plain(value).encode())
        case str():
            return storable(value)
        case _:
            return value
