"""Which errors of a database mean that it is away, translated for those who can wait or do without."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from services.errors import Unavailable
from services.storage.migrations import MigrationFailed

_RETRY_AFTER: Final = 2.0

_OUTAGES: Final = (
    OSError,
    TimeoutError,
    sqlite3.OperationalError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.ReadOnlySQLTransactionError,
)


@contextmanager
def outages_translated() -> Iterator[None]:
    """Raise `Unavailable` for what means an outage in the block; other errors pass through."""
    try:
        yield
    except _OUTAGES as exc:
        raise Unavailable(retry_after=_RETRY_AFTER) from exc
    except MigrationFailed as exc:
        if isinstance(exc.__cause__, _OUTAGES):
            raise Unavailable(retry_after=_RETRY_AFTER) from exc
        raise
