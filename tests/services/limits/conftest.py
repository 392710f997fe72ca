"""The loop every async test of limits runs on, and a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis_server import RedisServer

from services.redis_client import open_redis


class ConnectedRedis(RedisServer):
    """A Redis, and a client of it as the service has one."""

    client: Redis


@pytest.fixture
async def redis_server(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> AsyncIterator[ConnectedRedis]:
    server = ConnectedRedis(tmp_path)
    server.start()
    try:
        async with open_redis(server.url) as server.client:
            yield server
    finally:
        server.kill()
