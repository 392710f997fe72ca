"""The loop every async test of limits runs on, and a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis_server import RedisServer, serving_redis


@pytest.fixture(autouse=True)
def _loop(loop: asyncio.AbstractEventLoop) -> None:
    """Async tests run on pytest-sanic's loop, whether or not they name it."""


@pytest.fixture
async def redis_server(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> AsyncIterator[RedisServer]:
    async with serving_redis(tmp_path) as server:
        yield server
