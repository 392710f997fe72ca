from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from databases import Database

from services.storage.database import database_at
from services.storage.dialect import Dialect, dialect_of
from services.storage.migrations import Migration, MigrationFailed, load, migrate

NOTES = Migration("0001_notes", "CREATE TABLE note (text text NOT NULL);")

# A statement that holds semicolons, and one that uses what the first one made.
TRIGGERS: dict[Dialect, Migration] = {
    "sqlite": Migration(
        "0002_trigger",
        """
        CREATE TABLE copy (text text); -- a comment; with a semicolon
        CREATE TRIGGER copy_note AFTER INSERT ON note BEGIN
            INSERT INTO copy VALUES (new.text);
            INSERT INTO copy VALUES ('; ' || new.text);
        END;
        INSERT INTO note VALUES (':name; it''s');
        """,
    ),
    "postgres": Migration(
        "0002_trigger",
        """
        CREATE TABLE copy (text text); -- a comment; with a semicolon
        CREATE FUNCTION copy_note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO copy VALUES (new.text);
            INSERT INTO copy VALUES ('; ' || new.text);
            RETURN new;
        END $$;
        CREATE TRIGGER copy_note AFTER INSERT ON note FOR EACH ROW EXECUTE FUNCTION copy_note();
        INSERT INTO note VALUES (':name; it''s');
        """,
    ),
}

BROKEN = Migration("0002_broken", "CREATE TABLE half (a int); INSERT INTO nowhere VALUES (1);")


async def test_triggers_and_functions_are_applied_whole(database_url: str) -> None:
    async with database_at(database_url) as database:
        await migrate(database, (NOTES, TRIGGERS[dialect_of(database)]))

        copies = await database.fetch_all("SELECT text FROM copy")

    assert {row["text"] for row in copies} == {":name; it's", "; :name; it's"}


async def test_a_failed_migration_leaves_nothing_behind(database_url: str) -> None:
    async with database_at(database_url) as database:
        with pytest.raises(MigrationFailed, match="0002_broken"):
            await migrate(database, (NOTES, BROKEN))

        assert await _applied(database) == ["0001_notes"]
        with pytest.raises(Exception, match="half"):
            await database.fetch_val("SELECT count(*) FROM half")


async def test_a_corrected_migration_goes_on_where_it_stopped(database_url: str) -> None:
    async with database_at(database_url) as database:
        with pytest.raises(MigrationFailed):
            await migrate(database, (NOTES, BROKEN))

        await migrate(database, (NOTES, Migration("0002_broken", "CREATE TABLE half (a int);")))

        assert await _applied(database) == ["0001_notes", "0002_broken"]


async def test_each_migration_runs_once_however_many_start_together(database_url: str) -> None:
    """Four replicas; a second run of the INSERT would show."""
    insert = Migration("0002_insert", "INSERT INTO note VALUES ('once');")

    async def replica() -> None:
        async with database_at(database_url) as database:
            await migrate(database, (NOTES, insert))

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(replica())

    async with database_at(database_url) as database:
        assert await database.fetch_val("SELECT count(*) FROM note") == 1


async def test_replicas_see_what_others_migrated_whatever_the_database_s_isolation(
    postgres_url: str,
) -> None:
    """Those that had waited for the lock looked at the time before it, and failed: the table was there."""
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    async with database_at(postgres_url) as owner:
        await owner.execute(
            f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"
        )

        async def replica() -> None:
            async with database_at(postgres_url) as database:
                await migrate(database, (NOTES,))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(replica())
        finally:
            await owner.execute(f"ALTER DATABASE {name} RESET ALL")  # others get it after this test

        assert await _applied(owner) == ["0001_notes"]


async def test_a_migration_cancelled_while_others_write_locks_nobody_out(
    loop: Any, tmp_path: Path
) -> None:
    """Memory migrates at its first search, whose deadline may strike while it waits to begin.

    The connection went back with that BEGIN under way: it kept the file's lock, and lost what the next one wrote.
    """
    file = tmp_path / "chat.db"
    async with database_at(f"sqlite:///{file}") as database:
        await migrate(database, (NOTES,))
        with closing(sqlite3.connect(file, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await migrate(database, (NOTES,))
            writer.execute("ROLLBACK")

            await database.execute("INSERT INTO note VALUES ('kept')")

            assert writer.execute("SELECT text FROM note").fetchall() == [("kept",)]


def test_both_dialects_have_the_same_migrations() -> None:
    names = [migration.name for migration in load("sqlite")]

    assert names == [migration.name for migration in load("postgres")]
    assert names[0] == "0001_telemetry"
    assert [name[:4] for name in names] == [f"{n:04}" for n in range(1, len(names) + 1)]


async def _applied(database: Database) -> list[str]:
    rows = await database.fetch_all("SELECT name FROM schema_migrations ORDER BY name")
    return [row["name"] for row in rows]
