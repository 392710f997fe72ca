"""SQLite's few connections: kept, shared, and never handed on with anything open."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from databases import Database
from patience import PATIENCE

from services.storage.database import database_at
from services.storage.transaction import transaction

# Some hundred milliseconds in SQLite's own loop.
SLOW = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000000) SELECT max(i) FROM n"
MANY = 30


@pytest.fixture
async def database(loop: Any, tmp_path: Path) -> AsyncIterator[Database]:
    """With a write-ahead log and one empty table."""
    async with database_at(f"sqlite:///{tmp_path}/chat.db") as database:
        await database.fetch_val("PRAGMA journal_mode = WAL")
        await database.execute("CREATE TABLE note (text text)")
        yield database


async def test_one_query_after_the_other_needs_one_connection(database: Database) -> None:
    """Each used to start a thread and open the file anew."""
    before = threading.active_count()

    for number in range(MANY):
        await database.execute("INSERT INTO note VALUES (:text)", {"text": str(number)})
        await database.fetch_all("SELECT text FROM note")

    assert threading.active_count() == before
    assert await database.fetch_val("SELECT count(*) FROM note") == MANY


async def test_many_queries_at_once_share_a_few_connections(database: Database) -> None:
    before = threading.active_count()

    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(database.fetch_val("SELECT :n", {"n": n})) for n in range(200)]

    assert [task.result() for task in asked] == list(range(200))
    assert threading.active_count() - before <= 8


async def test_a_row_has_its_values_by_name_and_by_position(database: Database) -> None:
    row = await database.fetch_one("SELECT 1 AS one, :two AS two", {"two": "it's :two"})

    assert row is not None
    assert (row["one"], row["two"]) == (1, "it's :two")
    assert (row[0], row[1]) == (1, "it's :two")
    assert await database.fetch_one("SELECT 1 WHERE false") is None
    assert await database.fetch_val("SELECT 1 WHERE false") is None


async def test_a_failed_query_does_not_spoil_its_connection(database: Database) -> None:
    before = threading.active_count()

    for _ in range(MANY):
        with pytest.raises(sqlite3.OperationalError):
            await database.fetch_all("SELECT * FROM nowhere")

    assert await database.fetch_val("SELECT 1") == 1
    assert threading.active_count() == before


async def test_cancelled_readers_leave_no_snapshot_open(database: Database) -> None:
    """The log of writes could never be emptied past it, and would grow for as long as the process runs."""
    await database.execute("INSERT INTO note VALUES ('a')")

    for _ in range(MANY):
        reading = asyncio.create_task(
            database.fetch_all(f"SELECT text, ({SLOW.replace('2000000', '20000')}) FROM note")
        )
        await asyncio.sleep(0.001)
        reading.cancel()
        await asyncio.wait({reading})
    await database.execute("INSERT INTO note VALUES ('b')")

    async with asyncio.timeout(30):
        while (await _checkpoint(database))["busy"]:  # noqa: ASYNC110 - a thread tells nobody
            await asyncio.sleep(0.01)
    # Every place is free again.
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(database.fetch_val("SELECT count(*) FROM note"))


async def test_a_cancelled_reader_does_not_wait_for_its_query(database: Database) -> None:
    reading = asyncio.create_task(database.fetch_val(SLOW.replace("2000000", "20000000")))
    await asyncio.sleep(0.01)
    reading.cancel()

    done, _ = await asyncio.wait({reading}, timeout=1)

    assert done


async def test_writers_in_transactions_wait_for_each_other(database: Database) -> None:
    """Begun as readers, all but one would be refused at once: their snapshot is out of date."""
    await database.execute("INSERT INTO note VALUES ('0')")

    async def increase() -> None:
        async with transaction(database) as connection:
            number = await connection.fetch_val("SELECT CAST(text AS integer) FROM note")
            await asyncio.sleep(0)
            await connection.execute("UPDATE note SET text = :n", {"n": number + 1})

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(increase())

    assert await database.fetch_val("SELECT text FROM note") == "20"


async def test_a_cancelled_transaction_is_undone_and_blocks_nobody(database: Database) -> None:
    for _ in range(MANY):
        begun = asyncio.Event()
        writing = asyncio.create_task(_write_and_wait(database, begun))
        await begun.wait()
        writing.cancel()
        await asyncio.wait({writing})

    await database.execute("INSERT INTO note VALUES ('after')")
    assert [row["text"] for row in await database.fetch_all("SELECT text FROM note")] == ["after"]


async def test_a_transaction_cancelled_while_it_waits_to_begin_keeps_no_connection(
    database: Database,
) -> None:
    async with transaction(database):
        for _ in range(MANY):
            waiting = asyncio.create_task(_write_and_wait(database, asyncio.Event()))
            await asyncio.sleep(0.001)
            waiting.cancel()
            await asyncio.wait({waiting})

        async with asyncio.timeout(30):
            found = asyncio.create_task(database.fetch_val("SELECT count(*) FROM note"))
            assert await found == 0


async def test_transactions_within_each_other_are_undone_apart(database: Database) -> None:
    async with database.transaction():
        await database.execute("INSERT INTO note VALUES ('kept')")
        with pytest.raises(LookupError):
            await _write_and_fail(database)

    assert [row["text"] for row in await database.fetch_all("SELECT text FROM note")] == ["kept"]


async def test_closing_waits_for_the_query_under_way_and_leaves_no_thread(tmp_path: Path) -> None:
    """A thread that outlived the database would keep the process from ending."""
    before = threading.active_count()
    async with database_at(f"sqlite:///{tmp_path}/chat.db") as database:
        reading = asyncio.create_task(database.fetch_val(SLOW))
        await asyncio.sleep(0.01)
        reading.cancel()
        await asyncio.wait({reading})
        await database.fetch_val("SELECT 1")

    async with asyncio.timeout(30):
        while threading.active_count() > before:  # noqa: ASYNC110 - its last act is to tell us
            await asyncio.sleep(0.01)


def test_a_database_that_cannot_be_opened_leaves_no_thread_that_wants_the_loop(
    tmp_path: Path,
) -> None:
    """Four starts in ten printed a traceback of it before the line that says what is wrong."""
    for _ in range(20):
        asyncio.run(_fail_to_open(tmp_path))  # a thread that is late fails the test, by pytest


async def _fail_to_open(folder: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        async with database_at(f"sqlite:///{folder}") as database:
            await database.fetch_val("SELECT 1")


async def test_a_thread_that_cannot_start_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's limit of processes counts threads."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with asyncio.timeout(PATIENCE):
        async with database_at(f"sqlite:///{tmp_path}/chat.db") as database:
            monkeypatch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start"):
                await database.fetch_val("SELECT 1")
            monkeypatch.undo()

            assert await database.fetch_val("SELECT 1") == 1


async def _write_and_wait(database: Database, begun: asyncio.Event) -> None:
    async with transaction(database) as connection:
        await connection.execute("INSERT INTO note VALUES ('undone')")
        begun.set()
        await asyncio.Event().wait()


async def _write_and_fail(database: Database) -> None:
    async with database.transaction():
        await database.execute("INSERT INTO note VALUES ('undone')")
        raise LookupError


async def _checkpoint(database: Database) -> Any:
    return await database.fetch_one("PRAGMA wal_checkpoint(TRUNCATE)")
