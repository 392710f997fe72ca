from __future__ import annotations

import asyncio
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _loop(loop: asyncio.AbstractEventLoop) -> None:
    """Every async test runs on pytest-sanic's loop."""


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of this test's own, in each dialect in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/folder/chat.db"
    return str(request.getfixturevalue("postgres_url"))
