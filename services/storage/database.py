"""The one database: SQLite or Postgres behind `databases`, opened from a URL and migrated."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import asyncpg
from databases import Database
from loguru import logger

from services.storage.dialect import dialect_of
from services.storage.migrations import migrate
from services.storage.sqlite_connections import SqliteDatabase

_BUSY_TIMEOUT: Final = 5.0
_BUSY_RETRY: Final = 0.02
_CONNECT_TIMEOUT: Final = 10.0
_CLOSE_TIMEOUT: Final = 5.0
_POOL_SIZE: Final = 10

# What asyncpg understands of libpq's parameters. It would send any other to the server, which
# refuses names that are not settings of its own (`channel_binding`, `connect_timeout`, …).
_POSTGRES_PARAMETERS: Final = frozenset({
    "application_name", "host", "sslcert", "sslkey", "sslmode", "sslrootcert", "target_session_attrs",
})  # fmt: skip


class BadDatabaseUrl(Exception):
    """The database URL can't be used; the message says why and never repeats the URL."""


class DatabaseUnavailable(Exception):
    """The database could not be opened."""


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """The database at *url*, connected, its schema up to date, for as long as the block runs.

    `sqlite:///relative/path` and `sqlite:////absolute/path` (folders are created), or
    `postgres://` and `postgresql://` with libpq's TLS parameters, and `pgbouncer=true` for a pooler that
    keeps no connection longer than a transaction. Every other module takes the
    `Database` this yields and asks `dialect_of` where SQL differs. Either keeps a few
    connections open; queries of one task share one while `async with database.connection():` runs.
    Raises `BadDatabaseUrl`, `DatabaseUnavailable` or `MigrationFailed`.
    """
    # Both log every query with its arguments, which are people's messages, at DEBUG.
    for name in ("databases", "aiosqlite"):
        logging.getLogger(name).setLevel(logging.INFO)
    # Its only warning is a traceback for each connection it tries to have back during an outage, also
    # when nobody asks for one. Who needs the database says once that it is away.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
    database = database_at(url)
    try:
        try:
            await database.connect()
            if dialect_of(database) == "sqlite":
                await _use_write_ahead_log(database)
        except (
            OSError,
            TimeoutError,
            sqlite3.Error,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
        ) as exc:
            raise DatabaseUnavailable(f"The database can't be opened: {exc}") from exc
        await migrate(database)
        yield database
    finally:
        # A pool waits for its connections for ever; when it is cancelled it drops them.
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await database.disconnect()


def database_at(url: str) -> Database:
    """The database at *url*, not yet connected. Raises `BadDatabaseUrl`."""
    scheme = url.partition(":")[0]
    if scheme == "sqlite":
        return _sqlite(url)
    if scheme in ("postgres", "postgresql", "postgresql+asyncpg"):
        return _postgres(url)
    raise BadDatabaseUrl("DATABASE_URL must start with sqlite:///, postgres:// or postgresql://")


def _sqlite(url: str) -> Database:
    parts = urlsplit(url)
    path = unquote(parts.path.removeprefix("/"))
    if parts.netloc or parts.query or parts.fragment or not path or "\0" in path:
        raise BadDatabaseUrl(
            "DATABASE_URL: SQLite takes sqlite:///path, without host or parameters"
        )
    if path == ":memory:":
        raise BadDatabaseUrl("DATABASE_URL: each connection would have its own in-memory database")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise BadDatabaseUrl(f"DATABASE_URL: the database's folder can't be made: {exc}") from exc
    return SqliteDatabase(url, timeout=_BUSY_TIMEOUT)


async def _use_write_ahead_log(database: Database) -> None:
    """Let readers and the writer not wait for each other; kept in the file once set.

    Switching needs the file for itself and does not wait for it (https://sqlite.org/wal.html), so
    when several processes create the file together, all but one are refused and look again.
    """
    async with asyncio.timeout(_BUSY_TIMEOUT):
        while True:
            try:
                await database.fetch_val("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as exc:
                if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
                await asyncio.sleep(_BUSY_RETRY)
            else:
                return


def _postgres(url: str) -> Database:
    parts = _split(url)
    given = dict(parse_qsl(parts.query))
    if "ssl" in given:
        given.setdefault("sslmode", "disable" if given["ssl"].lower() == "false" else "require")
    if given.get("sslmode") == "no-verify":
        given["sslmode"] = "require"  # libpq's name for TLS without checking the certificate
    options: dict[str, Any] = {}
    if given.pop("pgbouncer", "").lower() == "true":
        # A pooler by transaction, such as Supabase's at port 6543: the next query may come to another
        # connection, which does not know what was prepared on this one.
        options["statement_cache_size"] = 0
    for name in given.keys() - _POSTGRES_PARAMETERS - {"ssl"}:
        logger.bind(parameter=name).warning("Database URL parameter ignored")
    query = urlencode({k: v for k, v in given.items() if k in _POSTGRES_PARAMETERS})
    dsn = urlunsplit(parts._replace(scheme="postgresql", query=query))
    # `databases` knows none of the TLS parameters; asyncpg reads them from the same URL.
    return Database(
        dsn, dsn=dsn, min_size=1, max_size=_POOL_SIZE, timeout=_CONNECT_TIMEOUT, **options
    )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - looking at it is what checks it
    except ValueError:
        # The cause is left out: its text can hold a part of the password.
        raise BadDatabaseUrl(
            "DATABASE_URL is not a URL; special characters in a password must be percent-encoded"
        ) from None
    return parts
