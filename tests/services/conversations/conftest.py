from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from databases import Database

from services.storage.conversations import Conversations
from services.storage.database import open_database


@pytest.fixture(params=["sqlite", "postgres"])
async def database(
    loop: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Database]:
    """With all tables, in each dialect in turn."""
    url = f"sqlite:///{tmp_path}/chat.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    async with open_database(url) as database:
        yield database


@pytest.fixture
async def conversations(database: Database) -> Conversations:
    return Conversations(database, count=lambda text: len(text.split()))
