"""Numbered schema changes, each applied once, in order, whoever starts first.

A change is a pair of files, `sqlite/NNNN_name.sql` and `postgres/NNNN_name.sql`, of plain SQL
statements; triggers and functions are fine. It runs in a transaction of its own, so it is there
completely or not at all (statements that refuse a transaction, such as `CREATE INDEX CONCURRENTLY`,
can't be used). A released file is never changed: the next number corrects it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import asyncpg
from databases import Database
from databases.core import Connection
from loguru import logger

from services.storage.dialect import Dialect, dialect_of
from services.storage.transaction import transaction

_HERE: Final = Path(__file__).parent
# Any number does, as long as nothing else in the database uses it for an advisory lock.
_LOCK: Final = 4_831_007_226_417_501
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS schema_migrations"
    " (name text PRIMARY KEY, applied_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP)"
)

_Script: TypeAlias = Callable[[Connection, str], Awaitable[None]]


class MigrationFailed(Exception):
    """A schema change was refused; the schema is as it was before it."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One schema change, in one dialect."""

    name: str
    sql: str


async def migrate(database: Database, migrations: Sequence[Migration] | None = None) -> None:
    """Apply those of *migrations* (default: the project's) that *database* does not have yet.

    Safe when several processes do it at once: each change is checked and applied under a lock, so
    the others wait for it and then find it done. Raises `MigrationFailed`.
    """
    chosen = load(dialect_of(database)) if migrations is None else migrations
    async with database.connection():  # one for all of them
        for migration in chosen:
            try:
                async with transaction(database) as connection:
                    await _apply(migration, connection, _SCRIPTS[dialect_of(database)])
            except (sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
                raise MigrationFailed(f"Migration {migration.name}: {exc}") from exc


def load(dialect: Dialect, folder: Path = _HERE) -> tuple[Migration, ...]:
    """The project's schema changes in *dialect*, in order."""
    return tuple(
        Migration(path.stem, path.read_text("utf-8"))
        for path in sorted((folder / dialect).glob("*.sql"))
    )


async def _apply(migration: Migration, connection: Connection, run: _Script) -> None:
    await run(connection, _TABLE)
    name = {"name": migration.name}
    if await connection.fetch_one("SELECT 1 FROM schema_migrations WHERE name = :name", name):
        return
    await run(connection, migration.sql)
    await connection.execute("INSERT INTO schema_migrations (name) VALUES (:name)", name)
    logger.bind(migration=migration.name).info("Migration applied")


async def _on_postgres(connection: Connection, script: str) -> None:
    raw: asyncpg.Connection = connection.raw_connection
    # In any other isolation, which a database may have by default, what others did while this one
    # waited for the lock would not be seen.
    await raw.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
    await raw.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    # Without arguments, asyncpg sends the text as it is and the server splits it.
    await raw.execute(script)


async def _on_sqlite(connection: Connection, script: str) -> None:
    # Not `executescript`: it commits the open transaction first.
    for statement in _statements(script):
        await connection.raw_connection.execute(statement)


def _statements(script: str) -> Iterator[str]:
    """The statements of *script*, split where SQLite itself says that one is complete."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement


# Each runs a script of several statements in the open transaction, while it keeps others from theirs.
_SCRIPTS: Final[dict[Dialect, _Script]] = {"sqlite": _on_sqlite, "postgres": _on_postgres}
