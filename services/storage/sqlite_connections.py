"""SQLite for `databases`, with a few connections that stay open and one change of threads per query.

The backend that comes with `databases` opens a connection for every query, which is a thread, a
file and its schema to read, and then changes threads three times: half of the CPU time of a turn.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import aiosqlite
from databases import Database
from databases.core import DatabaseURL
from databases.interfaces import ConnectionBackend, DatabaseBackend, TransactionBackend
from sqlalchemy import BindParameter, TextClause
from sqlalchemy.sql import ClauseElement

T = TypeVar("T")

_CONNECTIONS: Final = 8


class SqliteDatabase(Database):
    """A `Database` for SQL text; rows are `sqlite3.Row`, which have what is asked of a `Record`.

    At most eight connections at a time, others wait for one to be free. Transactions are for
    writing. A query whose task is cancelled runs on in its thread, so its connection is closed
    after it, and never used again: no transaction or snapshot is left open.
    """

    SUPPORTED_BACKENDS = {  # noqa: RUF012 - its class has no ClassVar either
        **Database.SUPPORTED_BACKENDS,
        "sqlite": f"{__name__}:SqliteBackend",
    }


class SqliteBackend(DatabaseBackend):
    """Keeps the connections; *options* are those of `sqlite3.connect`."""

    def __init__(self, url: DatabaseURL, **options: Any) -> None:
        self._path = url.database
        self._options = options
        self._places = asyncio.Semaphore(_CONNECTIONS)
        self._idle: list[_Thread] = []
        self._ending: set[asyncio.Future[Any]] = set()
        self._closed = True

    async def connect(self) -> None:
        """Connections are made when they are needed."""
        self._closed = False

    async def disconnect(self) -> None:
        """Close what is idle, and wait for the end of what is not; cancelled, it goes on ending."""
        self._closed = True
        while self._idle:
            self._end(self._idle.pop())
        if self._ending:
            await asyncio.wait(self._ending)

    def connection(self) -> ConnectionBackend:
        """A connection, not yet taken from those here."""
        return _Connection(self)

    async def take(self) -> _Thread:
        """An idle connection, or a new one."""
        await self._places.acquire()
        if self._idle:
            return self._idle.pop()
        connection = _Thread(self._open, iter_chunk_size=64)
        try:
            await connection
        except BaseException:
            self._places.release()
            self._end(connection)
            raise
        return connection

    def give_back(self, connection: _Thread, *, reusable: bool) -> None:
        """Take *connection* back, or end it when it can't be used again."""
        self._places.release()
        if reusable and not self._closed:
            self._idle.append(connection)
        else:
            self._end(connection)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self._path, isolation_level=None, factory=_Configured, **self._options
        )

    def _end(self, connection: _Thread) -> None:
        if ended := connection.stop():
            self._ending.add(ended)
            ended.add_done_callback(self._ending.discard)


class _Thread(aiosqlite.Connection):
    """A connection and its thread, of which can be known when it has ended, however often it is told to.

    One that could not connect has been told so already, by aiosqlite: its thread once came to say that it
    ends when the loop was closed.
    """

    _ended: asyncio.Future[Any] | None = None

    def stop(self) -> asyncio.Future[Any] | None:
        """Have the thread end; done when it does. None if it never began, and nothing would ever be done."""
        if self._ended is None and self._thread.ident is not None:
            self._ended = super().stop()
        return self._ended


class _Configured(sqlite3.Connection):
    """What every new connection must be told: it is not kept in the file."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.row_factory = sqlite3.Row
        self.execute("PRAGMA foreign_keys = ON")
        # A file that can't be read is for the first query to report.
        with suppress(sqlite3.Error):
            # With a write-ahead log, a power cut can cost the last commits, never consistency.
            self.execute("PRAGMA synchronous = NORMAL")


class _Connection(ConnectionBackend):
    def __init__(self, backend: SqliteBackend) -> None:
        self._backend = backend
        self._taken: _Thread | None = None
        self._interrupted = False

    @property
    def raw_connection(self) -> _Thread:
        if self._taken is None:
            raise RuntimeError("the connection is not acquired")
        return self._taken

    async def acquire(self) -> None:
        self._taken = await self._backend.take()
        self._interrupted = False

    async def release(self) -> None:
        # Without an await, so that no cancellation can come between: `databases` would hand a
        # connection it could not give back to the same task for ever.
        raw, self._taken = self.raw_connection, None
        self._backend.give_back(raw, reusable=not self._interrupted and not raw.in_transaction)

    async def fetch_all(self, query: ClauseElement) -> list[Any]:
        return await self.run(*_sql(query))

    async def fetch_one(self, query: ClauseElement) -> Any:
        rows = await self.fetch_all(query)
        return rows[0] if rows else None

    async def execute(self, query: ClauseElement) -> None:
        await self.run(*_sql(query))

    async def execute_many(self, queries: Sequence[ClauseElement]) -> None:
        statements = [_sql(query) for query in queries]
        if statements:
            # They differ in their values only.
            values = [values for _, values in statements]
            await self._whole(self.raw_connection.executemany(statements[0][0], values))

    async def iterate(self, query: ClauseElement) -> AsyncGenerator[Any, None]:
        for row in await self.fetch_all(query):
            yield row

    def transaction(self) -> TransactionBackend:
        return _Transaction(self)

    async def run(self, sql: str, values: Mapping[str, Any] | None = None) -> list[Any]:
        """Run *sql* in the connection's thread, to the end; all its rows."""
        return list(await self._whole(self.raw_connection.execute_fetchall(sql, values or {})))

    async def _whole(self, query: Awaitable[T]) -> T:
        try:
            return await query
        except asyncio.CancelledError:
            self._interrupted = True
            raise


class _Transaction(TransactionBackend):
    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._is_root = True

    async def start(self, is_root: bool, extra_options: Mapping[Any, Any]) -> None:
        self._is_root = is_root
        # Waits for other writers now. Begun as a reader, it would be refused at its first write,
        # without waiting, whenever another had written since (https://sqlite.org/isolation.html).
        await self._connection.run("BEGIN IMMEDIATE" if is_root else "SAVEPOINT nested")

    async def commit(self) -> None:
        await self._connection.run("COMMIT" if self._is_root else "RELEASE nested")

    async def rollback(self) -> None:
        if self._is_root:
            await self._connection.run("ROLLBACK")
        else:
            await self._connection.run("ROLLBACK TO nested")
            await self._connection.run("RELEASE nested")


def _sql(query: ClauseElement) -> tuple[str, dict[str, Any]]:
    """The text and the values of *query*. SQLite reads `:name` itself; nothing has to be compiled."""
    if not isinstance(query, TextClause):
        raise TypeError("this database takes SQL as text")
    bound = (each for each in query.get_children() if isinstance(each, BindParameter))
    return query.text, {each.key: each.value for each in bound}
