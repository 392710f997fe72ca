"""Numbered schema changes, each applied once, in order, whoever starts first.

A change is a pair of files, `sqlite/NNNN_name.sql` and `postgres/NNNN_name.sql`, of plain SQL
statements; triggers and functions are fine. It runs in a transaction of its own, so it is there
completely or not at all (statements that refuse a transaction, such as `CREATE INDEX CONCURRENTLY`,
can't be used). A released file is never changed: the next number corrects it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import asyncpg
from databases import Database
from databases.core import Connection
from loguru import logger

from services.storage.dialect import Dialect, dialect_of

_HERE: Final = Path(__file__).parent
# Any number does, as long as nothing else in the database uses it for an advisory lock.
_LOCK: Final = 4_831_007_226_417_501
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS schema_migrations"
    " (name text PRIMARY KEY, applied_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP)"
)


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
    dialect = dialect_of(database)
    chosen = load(dialect) if migrations is None else migrations
    begin = _sqlite_transaction if dialect == "sqlite" else _postgres_transaction
    async with database.connection() as connection:
        for migration in chosen:
            try:
                async with begin(connection) as run:
                    await _apply(migration, connection, run)
            except (sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
                raise MigrationFailed(f"Migration {migration.name}: {exc}") from exc


def load(dialect: Dialect, folder: Path = _HERE) -> tuple[Migration, ...]:
    """The project's schema changes in *dialect*, in order."""
    return tuple(
        Migration(path.stem, path.read_text("utf-8"))
        for path in sorted((folder / dialect).glob("*.sql"))
    )


class _Run(Protocol):
    """Runs a script of several statements in the open transaction."""

    async def __call__(self, script: str, /) -> None: ...


async def _apply(migration: Migration, connection: Connection, run: _Run) -> None:
    await run(_TABLE)
    name = {"name": migration.name}
    if await connection.fetch_one("SELECT 1 FROM schema_migrations WHERE name = :name", name):
        return
    await run(migration.sql)
    await connection.execute("INSERT INTO schema_migrations (name) VALUES (:name)", name)
    logger.bind(migration=migration.name).info("Migration applied")


@asynccontextmanager
async def _postgres_transaction(connection: Connection) -> AsyncIterator[_Run]:
    raw: asyncpg.Connection = connection.raw_connection

    async def run(script: str) -> None:
        # Without arguments, asyncpg sends the text as it is and the server splits it.
        await raw.execute(script)

    async with connection.transaction():
        await raw.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        yield run


@asynccontextmanager
async def _sqlite_transaction(connection: Connection) -> AsyncIterator[_Run]:
    raw = connection.raw_connection

    async def run(script: str) -> None:
        # Not `executescript`: it commits the open transaction first.
        for statement in _statements(script):
            await raw.execute(statement)

    await raw.execute("BEGIN IMMEDIATE")
    try:
        yield run
    except BaseException:
        await raw.rollback()
        raise
    await raw.commit()


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
