"""The queries of docs/telemetry.md, which on Postgres are the guide's, word for word."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from databases import Database

from services.storage.dialect import dialect_of
from services.telemetry import TelemetryEvent, Value
from services.telemetry.database import DatabaseSink
from tests.services.telemetry.conftest import Store

PAGE = Path(__file__).parents[3] / "docs" / "telemetry.md"


def report(title: str, database: Database) -> str:
    section = PAGE.read_text("utf-8").split(f"## {title}\n")[1]
    postgres, sqlite = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)[:2]
    return str(postgres if dialect_of(database) == "postgres" else sqlite)


async def run(query: str, database: Database) -> list[dict[str, Any]]:
    """The rows of *query*, sent by the driver as it stands: `databases` would look for arguments in it."""
    async with database.connection() as connection:
        raw = connection.raw_connection
        if dialect_of(database) == "postgres":
            return [dict(row) for row in await raw.fetch(query)]
        cursor = await raw.execute(query)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]


async def ask(title: str, database: Database) -> list[dict[str, Any]]:
    return await run(report(title, database), database)


def hour_of(row: dict[str, Any]) -> datetime:
    hour = row.pop("hour")
    return hour if isinstance(hour, datetime) else datetime.fromisoformat(hour)


@pytest.fixture
def this_hour() -> datetime:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


async def test_retries_by_hour(store: Store, this_hour: datetime) -> None:
    def call(age: timedelta, retries: int) -> TelemetryEvent:
        payload: dict[str, Value] = {"provider_retry_count": retries, "model": "gpt-4o-mini"}
        return TelemetryEvent("openai_call", "req", "alice", None, payload, this_hour - age)

    async with DatabaseSink(store.database).writing() as sink:
        for minutes, retries in ((10, 0), (20, 1), (30, 2), (59, 0)):
            sink.record(call(timedelta(minutes=minutes), retries))
        for minutes, retries in ((61, 0), (119, 0)):
            sink.record(call(timedelta(minutes=minutes), retries))
        sink.record(call(timedelta(hours=26), 2))
        sink.record(_error(this_hour - timedelta(minutes=5), "RATE_LIMIT"))

    rows = await ask("Retries by hour", store.database)

    assert [hour_of(row) for row in rows] == [
        this_hour - timedelta(hours=1),
        this_hour - timedelta(hours=2),
    ]
    assert rows == [
        {"avg_retries": 0.75, "max_retries": 2, "requests_with_retries": 2, "total_requests": 4},
        {"avg_retries": 0, "max_retries": 0, "requests_with_retries": 0, "total_requests": 2},
    ]


async def test_errors_by_hour(store: Store, this_hour: datetime) -> None:
    async with DatabaseSink(store.database).writing() as sink:
        for minutes, code in (
            (1, "OPENAI_TIMEOUT"),
            (2, "OPENAI_TIMEOUT"),
            (3, "RATE_LIMIT"),
            (4, "SERVER_ERROR"),
            (61, "RATE_LIMIT"),
            (26 * 60, "RATE_LIMIT"),
        ):
            sink.record(_error(this_hour - timedelta(minutes=minutes), code))
        sink.record(TelemetryEvent("openai_call", "req", "alice", None, {}))

    rows = await ask("Errors by hour", store.database)

    assert [hour_of(row) for row in rows] == [
        this_hour - timedelta(hours=1),
        this_hour - timedelta(hours=2),
    ]
    assert rows == [
        {"timeout_errors": 2, "rate_limit_errors": 1, "total_errors": 4},
        {"timeout_errors": 0, "rate_limit_errors": 1, "total_errors": 1},
    ]


@pytest.mark.parametrize("title", ["Retries by hour", "Errors by hour"])
async def test_reports_read_the_index_and_not_the_whole_table(store: Store, title: str) -> None:
    """A year of rows must not slow down a look at the last day."""
    await run(_A_YEAR[dialect_of(store.database)], store.database)
    await store.database.execute("ANALYZE")
    explain = "EXPLAIN " if dialect_of(store.database) == "postgres" else "EXPLAIN QUERY PLAN "

    plan = await run(explain + report(title, store.database), store.database)

    text = "\n".join(str(column) for row in plan for column in row.values())
    assert "telemetry_events_type_created_at" in text
    assert "Seq Scan" not in text


def _error(created_at: datetime, code: str) -> TelemetryEvent:
    return TelemetryEvent("error", "req", "alice", None, {"code": code}, created_at)


_A_YEAR = {
    "postgres": """
        INSERT INTO telemetry_events
        SELECT gen_random_uuid(), CASE WHEN n % 50 = 0 THEN 'error' ELSE 'openai_call' END,
            now() - n * interval '26 minutes', 'req', 'alice', NULL, '{"provider_retry_count": 0}'
        FROM generate_series(1, 20000) AS n
        """,
    "sqlite": """
        WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < 20000)
        INSERT INTO telemetry_events
        SELECT hex(n), CASE WHEN n % 50 = 0 THEN 'error' ELSE 'openai_call' END,
            strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-' || (26 * n) || ' minutes'), 'req', 'alice',
            NULL, '{"provider_retry_count": 0}'
        FROM series
        """,
}
