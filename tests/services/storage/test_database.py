from __future__ import annotations

import asyncio
import logging
import socket
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from postgres import PostgresServer

from services.storage.database import (
    BadDatabaseUrl,
    DatabaseUnavailable,
    database_at,
    open_database,
)
from services.storage.dialect import dialect_of, utc_text


async def test_an_opened_database_has_the_schema(database_url: str) -> None:
    async with open_database(database_url) as database:
        applied = await database.fetch_all("SELECT name FROM schema_migrations ORDER BY name")
        rows = await database.fetch_val("SELECT count(*) FROM telemetry_events")

    assert applied[0]["name"] == "0001_telemetry"
    assert rows == 0


async def test_opening_again_changes_nothing(database_url: str) -> None:
    async with open_database(database_url) as database:
        first = await database.fetch_all("SELECT name FROM schema_migrations ORDER BY name")

    async with open_database(database_url) as database:
        second = await database.fetch_all("SELECT name FROM schema_migrations ORDER BY name")

    assert [row["name"] for row in second] == [row["name"] for row in first]


async def test_replicas_that_start_together_all_start(database_url: str) -> None:
    """A deploy starts them within the same second, on a database that may be new."""

    async def replica() -> list[str]:
        async with open_database(database_url) as database:
            rows = await database.fetch_all("SELECT name FROM schema_migrations ORDER BY name")
            return [row["name"] for row in rows]

    async with asyncio.TaskGroup() as group:
        replicas = [group.create_task(replica()) for _ in range(4)]

    assert len({tuple(task.result()) for task in replicas}) == 1


async def test_sqlite_readers_do_not_wait_for_the_writer(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path}/chat.db") as database:
        settings = {
            name: await database.fetch_val(f"PRAGMA {name}")
            for name in ("journal_mode", "busy_timeout", "synchronous", "foreign_keys")
        }

    assert settings == {
        "journal_mode": "wal",
        "busy_timeout": 5000,
        "synchronous": 1,
        "foreign_keys": 1,
    }


async def test_a_file_somebody_is_writing_to_is_waited_for(tmp_path: Path) -> None:
    """SQLite refuses at once to switch its journal then, whatever its patience."""
    path = tmp_path / "chat.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE busy (a int)")
        other.execute("BEGIN IMMEDIATE")
        asyncio.get_running_loop().call_later(0.05, other.rollback)

        async with open_database(f"sqlite:///{path}") as database:
            assert await database.fetch_val("PRAGMA journal_mode") == "wal"


async def test_the_write_ahead_log_outlives_a_query_and_not_the_block(tmp_path: Path) -> None:
    """It would otherwise be made and deleted with every query."""
    log = tmp_path / "chat.db-wal"
    async with open_database(f"sqlite:///{tmp_path}/chat.db") as database:
        await database.execute("CREATE TABLE note (text text)")

        assert log.exists()

    assert not log.exists()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
@pytest.mark.parametrize("query", ["sslmode=disable", "ssl=false", "sslmode=prefer&pgbouncer=true"])
async def test_the_forms_of_a_postgres_url_connect(
    postgres_url: str, scheme: str, query: str
) -> None:
    url = f"{scheme}:{postgres_url.partition(':')[2]}&{query}"

    async with open_database(url) as database:
        assert dialect_of(database) == "postgres"
        assert await database.fetch_val("SELECT 1 + 1") == 2


@pytest.mark.parametrize(("query", "prepared"), [("pgbouncer=true", 0), ("pgbouncer=false", 1)])
async def test_behind_a_pooler_by_transaction_nothing_is_left_prepared(
    postgres_url: str, query: str, prepared: int
) -> None:
    """The next query comes to another connection, and `prepared statement … does not exist`."""
    async with open_database(f"{postgres_url}&{query}") as database, database.connection():
        await database.fetch_val("SELECT 1 + CAST(:one AS int)", {"one": 1})

        found = await database.fetch_val(
            "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT 1 +%'"
        )

    assert found == prepared


@pytest.mark.parametrize(
    ("query", "mode"),
    [
        ("sslmode=no-verify", "require"),
        ("ssl=true", "require"),
        ("ssl=false", "disable"),
        ("ssl=true&sslmode=verify-full", "verify-full"),
    ],
)
def test_what_others_call_a_way_of_tls_is_called_as_libpq_does(query: str, mode: str) -> None:
    database = database_at(f"postgres://user:pass@host/railway?{query}")

    assert database.url.options == {"sslmode": mode}


async def test_sslmode_require_is_obeyed() -> None:
    """`databases` alone ignores it, and goes on in the clear when the server has no TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        said = asyncio.get_running_loop().run_in_executor(None, _refuse_tls, listener)
        url = f"postgres://user:pass@127.0.0.1:{port}/railway?sslmode=require"

        with pytest.raises(DatabaseUnavailable):
            async with open_database(url):
                pass

        assert await said == b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


def _refuse_tls(listener: socket.socket) -> bytes:
    """Everything a client says to a server without TLS: at best only that it wants some."""
    connection, _ = listener.accept()
    with connection:
        said = connection.recv(64)
        connection.sendall(b"N")
        return said + connection.recv(4096)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("mysql://localhost/chat", "must start with"),
        ("", "must start with"),
        ("sqlite:///", "sqlite:///path"),
        ("sqlite://chat.db", "sqlite:///path"),
        ("sqlite:///chat.db?mode=ro", "sqlite:///path"),
        ("sqlite:///chat#2.db", "sqlite:///path"),
        ("sqlite:///:memory:", "in-memory"),
        ("sqlite:///%00", "sqlite:///path"),
        ("postgres://user:se/cret@host/chat", "percent-encoded"),
        ("postgres://user:pass@host:99999/chat", "percent-encoded"),
    ],
)
async def test_a_bad_url_is_refused_without_repeating_it(url: str, complaint: str) -> None:
    with pytest.raises(BadDatabaseUrl, match=complaint) as caught:
        database_at(url)

    assert "cret" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_a_folder_that_cannot_be_made_is_a_bad_url(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(BadDatabaseUrl, match="folder can't be made"):
        database_at(f"sqlite:///{tmp_path}/file/chat.db")


async def test_a_database_that_is_not_there_is_reported_without_its_password(
    unused_port: int,
) -> None:
    with pytest.raises(DatabaseUnavailable, match="can't be opened") as caught:
        async with open_database(f"postgres://user:s3cr3t@127.0.0.1:{unused_port}/chat"):
            pass

    assert "s3cr3t" not in str(caught.value)


async def test_a_file_that_is_no_database_is_reported(tmp_path: Path) -> None:
    (tmp_path / "chat.db").write_text("a letter, not a database" * 100)

    with pytest.raises(DatabaseUnavailable, match="not a database"):
        async with open_database(f"sqlite:///{tmp_path}/chat.db"):
            pass


async def test_a_password_with_special_characters_arrives_whole() -> None:
    database = database_at("postgres://user:p%40ss%2Fw%3Ard@host:5433/railway")

    assert database.url.password == "p@ss/w:rd"
    assert database.url.port == 5433


async def test_queries_and_their_arguments_are_never_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Arguments are what people wrote."""
    caplog.set_level(logging.DEBUG)

    async with open_database(f"sqlite:///{tmp_path}/chat.db") as database:
        await database.fetch_val("SELECT :text", {"text": "my diary"})

    assert "my diary" not in caplog.text


async def test_an_outage_is_not_logged_by_the_driver(
    postgres_server: PostgresServer, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It logged a traceback a minute, all night, of a service that nobody used."""
    async with open_database(postgres_url) as database:
        await asyncio.to_thread(postgres_server.kill)
        await asyncio.to_thread(postgres_server.start)

        assert await database.fetch_val("SELECT 1") == 1

    assert [line for line in caplog.records if line.name.startswith("asyncpg")] == []


async def test_what_is_committed_is_in_the_file(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path}/chat.db") as database:
        await database.execute("CREATE TABLE note (text text)")
        await database.execute("INSERT INTO note VALUES (:text)", {"text": "kept"})

    with sqlite3.connect(tmp_path / "chat.db") as file:
        kept = file.execute("SELECT text FROM note").fetchall()
    file.close()
    assert kept == [("kept",)]


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC),
        datetime(2026, 1, 2, 5, 4, 5, 678_000, tzinfo=timezone(timedelta(hours=2))),
    ],
)
def test_a_time_is_text_in_utc_to_the_millisecond(moment: datetime) -> None:
    assert utc_text(moment) == "2026-01-02T03:04:05.678Z"
