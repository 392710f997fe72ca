"""The contract of the database sink, kept on SQLite and on Postgres."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from databases import Database
from patience import PATIENCE

from services.storage.database import open_database
from services.storage.dialect import dialect_of
from services.storage.write_behind import Pace
from services.telemetry import TelemetryEvent, Value
from services.telemetry.database import DatabaseSink
from tests.postgres import PostgresServer
from tests.services.telemetry.conftest import Log, Store

UNAVAILABLE = "Telemetry database unavailable"
DROPPED = "Telemetry rows dropped"


def event(request_id: str = "req_1", payload: Mapping[str, Value] | None = None) -> TelemetryEvent:
    return TelemetryEvent("openai_call", request_id, "alice", None, payload or {})


def sink_of(store: Store, **options: Any) -> DatabaseSink:
    quick: Mapping[str, Any] = {"linger": 0.001, "retry": 0.01, "retry_at_most": 0.05, "close": 20}
    return DatabaseSink(store.database, Pace(**{"capacity": 10_000, **quick, **options}))


async def request_ids(database: Database) -> list[str]:
    rows = await database.fetch_all("SELECT request_id FROM telemetry_events ORDER BY request_id")
    return [row["request_id"] for row in rows]


async def payload_text(database: Database) -> str:
    text = await database.fetch_val("SELECT CAST(payload_json AS text) FROM telemetry_events")
    assert isinstance(text, str)
    return text


async def test_an_event_becomes_a_row(store: Store) -> None:
    async with sink_of(store).writing() as sink:
        sink.record(
            TelemetryEvent(
                type="error",
                request_id="req_1",
                user_id="alice",
                session_id="session-20250819-143022-a1b2",
                payload={"code": "RATE_LIMIT", "status": 429, "phase": None},
                created_at=datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC),
            )
        )

    row = await store.database.fetch_one("SELECT * FROM telemetry_events")
    assert row is not None
    assert row["type"] == "error"
    assert row["request_id"] == "req_1"
    assert row["user_id"] == "alice"
    assert row["session_id"] == "session-20250819-143022-a1b2"
    assert json.loads(row["payload_json"]) == {"code": "RATE_LIMIT", "status": 429, "phase": None}
    assert row["created_at"] == (
        "2026-01-02T03:04:05.678Z"
        if dialect_of(store.database) == "sqlite"
        else datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("cost", "written"),
    [
        (Decimal("0.00000975"), "0.00000975"),
        (Decimal("9.75E-6"), "0.00000975"),
        (Decimal("1E+2"), "100"),
        (Decimal("0.1234567890123456789012345"), "0.1234567890123456789012345"),
        (None, "null"),
    ],
)
async def test_a_cost_is_a_plain_number_with_every_digit(
    store: Store, cost: Decimal | None, written: str
) -> None:
    """A float would have rounded it, and an exponent is not what the guide shows."""
    async with sink_of(store).writing() as sink:
        sink.record(event(payload={"cost_usd": cost}))

    text = await payload_text(store.database)
    assert text.replace(" ", "") == f'{{"cost_usd":{written}}}'


async def test_everything_a_payload_holds_comes_back(store: Store) -> None:
    payload: dict[str, Value] = {
        "model": 'quo"te, \\ and ünïcode 😀 :name',
        "tokens_in": 2**53 + 1,
        "ttft_ms": 0.5,
        "estimated": True,
        "memory_ms": None,
    }
    async with sink_of(store).writing() as sink:
        sink.record(event(payload=payload))

    assert json.loads(await payload_text(store.database)) == payload


async def test_a_text_that_no_database_takes_costs_no_row(store: Store) -> None:
    """Postgres refuses NUL in `jsonb`; a provider from a plug-in may call its model anything."""
    async with sink_of(store).writing() as sink:
        sink.record(event(payload={"model": "a\0b\ud800"}))

    assert json.loads(await payload_text(store.database)) == {"model": "a\ufffdb\ufffd"}
    assert sink.dropped == 0


async def test_rows_in_their_thousands_all_arrive_once(store: Store) -> None:
    async with sink_of(store, batch=64).writing() as sink:
        for n in range(2_000):
            sink.record(event(f"req_{n:04}"))

        assert sink.depth == 2_000

    assert await request_ids(store.database) == [f"req_{n:04}" for n in range(2_000)]
    assert sink.depth == 0
    assert sink.dropped == 0


async def test_rows_are_written_while_the_service_runs(store: Store) -> None:
    async with sink_of(store).writing() as sink:
        sink.record(event())

        async with asyncio.timeout(PATIENCE):
            while sink.depth:  # noqa: ASYNC110 - the writer announces nothing
                await asyncio.sleep(0.005)
        assert await request_ids(store.database) == ["req_1"]


async def test_an_outage_in_the_middle_of_writing_costs_no_row(store: Store, log: Log) -> None:
    """Streams record at full speed all the while."""
    took: list[float] = []

    async def load(sink: DatabaseSink, first: int) -> None:
        for n in range(first, first + 500):
            before = time.perf_counter()
            sink.record(event(f"req_{n:04}"))
            took.append(time.perf_counter() - before)
            if n % 10 == 0:
                await asyncio.sleep(0.001)

    async with sink_of(store, batch=16).writing() as sink:
        await load(sink, 0)
        async with asyncio.TaskGroup() as group:
            group.create_task(store.fail())
            group.create_task(load(sink, 500))
        await load(sink, 1000)
        await log.wait_for(UNAVAILABLE)
        async with asyncio.TaskGroup() as group:
            group.create_task(store.recover())
            group.create_task(load(sink, 1500))

    assert await request_ids(store.database) == [f"req_{n:04}" for n in range(2_000)]
    assert sink.dropped == 0
    # The machine may stop at any of them, but not at one in a hundred.
    assert sorted(took)[-20] < 0.2
    assert len(log.fields(UNAVAILABLE)) <= 2
    assert len(log.fields("Telemetry database available again")) == len(log.fields(UNAVAILABLE))


async def test_what_does_not_fit_is_counted_and_the_rest_arrives(store: Store, log: Log) -> None:
    async with sink_of(store, capacity=10).writing() as sink:
        await store.fail()
        for n in range(25):
            sink.record(event(f"req_{n:02}"))
        await log.wait_for(UNAVAILABLE)

        assert sink.depth == 10
        assert sink.dropped == 15
        await store.recover()

    assert await request_ids(store.database) == [f"req_{n:02}" for n in range(10)]
    assert [fields["dropped"] for fields in log.fields(DROPPED)] == [15]
    assert len(log.fields(UNAVAILABLE)) == 1


async def test_closing_gives_up_at_its_deadline_and_counts_what_is_lost(
    store: Store, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    async with sink_of(store, close=0.1).writing() as sink:
        await store.fail()
        for n in range(25):
            sink.record(event(f"req_{n:02}"))
        closing = time.monotonic()

    assert time.monotonic() - closing < 20
    assert sink.dropped == 25
    assert [fields["dropped"] for fields in log.fields(DROPPED)] == [25]
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_a_database_that_answers_nothing_holds_up_nobody(
    postgres_server: PostgresServer, postgres_url: str, log: Log
) -> None:
    """Not even at the end: the process has a deadline of its own to stop by."""
    async with open_database(postgres_url) as database:
        pace = Pace(linger=0.001, attempt=0.05, close=0.1, stop=0.1)
        sink = DatabaseSink(database, pace)
        with postgres_server.frozen():
            async with sink.writing():
                for n in range(25):
                    sink.record(event(f"req_{n:02}"))
                await log.wait_for(UNAVAILABLE)
                closing = time.monotonic()

            assert time.monotonic() - closing < 20

    assert sink.dropped == 25
    assert sink.depth == 0
    assert len(log.fields(UNAVAILABLE)) == 1


async def test_a_row_that_cannot_be_stored_takes_no_other_with_it(store: Store, log: Log) -> None:
    """Half a surrogate pair is not UTF-8; an endless number is not JSON."""
    async with sink_of(store).writing() as sink:
        for n in range(50):
            sink.record(event(f"req_{n:02}"))
        sink.record(event("req_\ud800"))
        sink.record(event("req_nan", {"cost_usd": Decimal("NaN")}))

    assert await request_ids(store.database) == [f"req_{n:02}" for n in range(50)]
    assert sink.dropped == 2
    assert [fields["dropped"] for fields in log.fields(DROPPED)] == [2]
    assert log.fields(UNAVAILABLE) == []


async def test_a_row_the_database_refuses_takes_no_other_with_it(store: Store, log: Log) -> None:
    """Otherwise one bad row would be tried for ever, and all behind it would wait."""
    await _refuse(store.database, "req_25")
    async with sink_of(store).writing() as sink:
        for n in range(50):
            sink.record(event(f"req_{n:02}"))

    assert await request_ids(store.database) == [f"req_{n:02}" for n in range(50) if n != 25]
    assert sink.dropped == 1
    assert len(log.fields(DROPPED)) == 1
    assert log.fields(UNAVAILABLE) == []


async def test_a_batch_whose_answer_was_lost_is_not_written_twice(store: Store) -> None:
    sink = DatabaseSink(Forgetful(store.database), Pace(linger=0.001, retry=0.001))
    async with sink.writing():
        for n in range(3):
            sink.record(event(f"req_{n}"))

    assert await request_ids(store.database) == ["req_0", "req_1", "req_2"]
    assert sink.dropped == 0


async def test_recording_outside_the_block_is_counted_and_harmless(store: Store) -> None:
    sink = sink_of(store)
    sink.record(event("req_before"))
    async with sink.writing():
        sink.record(event("req_while"))
    sink.record(event("req_after"))

    assert await request_ids(store.database) == ["req_while"]
    assert sink.dropped == 2


async def test_an_error_in_the_block_is_passed_on_after_the_rows_are_written(store: Store) -> None:
    async def fail() -> None:
        async with sink_of(store).writing() as sink:
            sink.record(event())
            raise LookupError("as it was")

    with pytest.raises(LookupError, match="as it was"):
        await fail()

    assert await request_ids(store.database) == ["req_1"]


async def test_closing_at_once_does_not_wait_for_others_to_share_the_batch(store: Store) -> None:
    started = time.monotonic()
    async with sink_of(store, linger=60).writing() as sink:
        sink.record(event())

    assert time.monotonic() - started < 30
    assert await request_ids(store.database) == ["req_1"]


class Forgetful(Database):
    """Does what it is told the first time, and then says that the connection was lost."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.url)
        self._real = database
        self._answers = False

    async def execute(self, query: Any, values: dict[str, Any] | None = None) -> Any:
        result = await self._real.execute(query, values)
        if not self._answers:
            self._answers = True
            raise ConnectionResetError
        return result


async def _refuse(database: Database, request_id: str) -> None:
    """Let *database* refuse rows of *request_id*."""
    check = f"request_id <> '{request_id}'"
    if dialect_of(database) == "postgres":
        await database.execute(f"ALTER TABLE telemetry_events ADD CHECK ({check})")
    else:
        await database.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON telemetry_events"
            f" WHEN NOT (new.{check}) BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
