"""The Redis client, set up so that cancelling and timing out work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


@asynccontextmanager
async def open_redis(url: str, **options: Any) -> AsyncIterator[Redis]:
    """A client of the Redis at *url* while the block runs; it connects when it is first used.

    It neither retries nor limits how long an answer may take: callers know how long they can wait.
    """
    client = Redis.from_url(
        url,
        # With one, redis-py sends through `asyncio.wait_for`, which before Python 3.12 swallows a
        # cancellation that arrives as the inner task ends (cpython#86296): tasks that can't be stopped.
        socket_timeout=None,
        socket_connect_timeout=5,
        retry=Retry(NoBackoff(), 0),
        **options,
    )
    async with client:
        yield client
