"""Several statements as one: all of them happen, or none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from databases import Database
from databases.core import Connection

from services.storage.dialect import dialect_of


@asynccontextmanager
async def transaction(database: Database) -> AsyncIterator[Connection]:
    """The connection that everything in the block has to use; an error or cancellation undoes it.

    On SQLite it waits for other writers before it begins. Not `database.transaction()`, which never
    gives back its connection when BEGIN or COMMIT fails or is cancelled.
    """
    immediate = dialect_of(database) == "sqlite"
    async with database.connection() as connection:
        await connection.execute("BEGIN IMMEDIATE" if immediate else "BEGIN")
        try:
            yield connection
        except BaseException:
            # If it can't be said any more, giving back the connection undoes it as well.
            with suppress(Exception):
                await connection.execute("ROLLBACK")
            raise
        await connection.execute("COMMIT")
