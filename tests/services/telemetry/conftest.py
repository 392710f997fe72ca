from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from databases import Database
from loguru import logger
from patience import PATIENCE
from postgres import PostgresServer

from services.storage.database import database_at
from services.storage.migrations import migrate


class Store(Protocol):
    """A migrated database that can be taken away for a while."""

    database: Database

    async def fail(self) -> None: ...
    async def recover(self) -> None: ...


class SqliteStore:
    """Fails by being locked, longer than a writer waits for it."""

    def __init__(self, path: Path) -> None:
        self.database = Database(f"sqlite:///{path}", timeout=0.01)
        self._path = path
        self._intruder: sqlite3.Connection | None = None

    async def fail(self) -> None:
        self._intruder = sqlite3.connect(self._path, isolation_level=None)
        self._intruder.execute("BEGIN EXCLUSIVE")

    async def recover(self) -> None:
        if self._intruder is not None:
            self._intruder.close()


class PostgresStore:
    """Fails by being killed."""

    def __init__(self, server: PostgresServer, url: str) -> None:
        self.database = database_at(url)
        self._server = server

    async def fail(self) -> None:
        await asyncio.to_thread(self._server.kill)

    async def recover(self) -> None:
        await asyncio.to_thread(self._server.start)


@pytest.fixture(params=["sqlite", "postgres"])
async def store(
    request: pytest.FixtureRequest, loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> AsyncIterator[Store]:
    """Both databases in turn, working again and closed at the end."""
    made: Store
    if request.param == "sqlite":
        made = SqliteStore(tmp_path / "chat.db")
    else:
        url = request.getfixturevalue("postgres_url")
        made = PostgresStore(request.getfixturevalue("postgres_server"), url)
    async with made.database:
        await migrate(made.database)
        yield made
        await made.recover()


class Log:
    """What was logged: phrases and fields. `seen[phrase]` is set when a phrase is logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self._seen: dict[str, asyncio.Event] = {}

    def write(self, message: Any) -> None:
        record = message.record
        self.lines.append((record["message"], record["extra"]))
        self._event(record["message"]).set()

    async def wait_for(self, phrase: str) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._event(phrase).wait()

    def fields(self, phrase: str) -> list[dict[str, Any]]:
        return [fields for message, fields in self.lines if message == phrase]

    def _event(self, phrase: str) -> asyncio.Event:
        return self._seen.setdefault(phrase, asyncio.Event())


@pytest.fixture
def log(loop: asyncio.AbstractEventLoop) -> Iterator[Log]:
    captured = Log()
    handler = logger.add(captured.write, level="DEBUG")
    yield captured
    logger.remove(handler)
