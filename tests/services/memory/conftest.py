from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from databases import Database
from loguru import logger
from zep_double import KEY, ZepDouble

from services.memory import Memory
from services.memory.embedded import EmbeddedMemory
from services.memory.zep import ZepMemory
from services.memory.zep_api import ZepApi
from services.storage.database import database_at, open_database


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of this test's own, in each dialect in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/chat.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def bare_database(loop: Any, database_url: str) -> AsyncIterator[Database]:
    """Connected, without any table."""
    async with database_at(database_url) as database:
        yield database


@pytest.fixture
async def embedded(bare_database: Database) -> EmbeddedMemory:
    return EmbeddedMemory(bare_database)


@pytest.fixture
async def zep(loop: Any) -> AsyncIterator[ZepDouble]:
    async with ZepDouble().serving() as double:
        yield double


@pytest.fixture
async def zep_api(zep: ZepDouble) -> AsyncIterator[ZepApi]:
    async with aiohttp.ClientSession() as http:
        yield ZepApi(http, KEY, base_url=zep.url, retry=0.001, timeout=2.0)


@pytest.fixture
async def migrated_database(loop: Any, tmp_path: Path) -> AsyncIterator[Database]:
    """On SQLite, with all tables."""
    async with open_database(f"sqlite:///{tmp_path}/zep.db") as database:
        yield database


@pytest.fixture
async def zep_memory(migrated_database: Database, zep_api: ZepApi) -> ZepMemory:
    return ZepMemory(migrated_database, zep_api)


@pytest.fixture(params=["sqlite", "postgres", "zep"])
async def memory(
    loop: Any, request: pytest.FixtureRequest, tmp_path: Path, zep_memory: ZepMemory
) -> AsyncIterator[Memory]:
    """Each memory there is, in turn."""
    if request.param == "zep":
        yield zep_memory
        return
    url = f"sqlite:///{tmp_path}/chat.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    async with database_at(url) as database:
        yield EmbeddedMemory(database)


@pytest.fixture
def log_lines() -> Iterator[list[tuple[str, str, dict[str, Any]]]]:
    """Level, phrase and fields of what was logged."""
    seen: list[tuple[str, str, dict[str, Any]]] = []

    def note(message: Any) -> None:
        record = message.record
        seen.append((record["level"].name, record["message"], record["extra"]))

    handler = logger.add(note, level="INFO")
    yield seen
    logger.remove(handler)
