"""The Redis client, set up so that cancelling and timing out work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from loguru import logger
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError


class BadRedisUrl(Exception):
    """The Redis URL can't be used; the message says why and never repeats the URL."""


@asynccontextmanager
async def open_redis(url: str, **options: Any) -> AsyncIterator[Redis]:
    """A client of the Redis at *url* while the block runs; it connects when it is first used.

    It neither retries nor limits how long an answer may take: callers know how long they can wait.
    Raises `BadRedisUrl`.
    """
    try:
        client = Redis.from_url(
            url,
            # With one, redis-py sends through `asyncio.wait_for`, which before Python 3.12 swallows a
            # cancellation that arrives as the inner task ends (cpython#86296): tasks that can't be stopped.
            socket_timeout=None,
            socket_connect_timeout=5,
            retry=Retry(NoBackoff(), 0),
            **options,
        )
        # Only a connection, which connects later, looks at the parameters.
        client.connection_pool.make_connection()  # type: ignore[no-untyped-call] # redis-py's
    except (ValueError, TypeError, RedisError):
        # The cause is left out: its text can hold a part of the password.
        raise BadRedisUrl("REDIS_URL: has a parameter that can't be used") from None
    async with client:
        yield client


async def answers(client: Redis, *, patience: float) -> bool:
    """Whether the Redis of *client* answers within *patience* seconds."""
    try:
        async with asyncio.timeout(patience):
            await client.ping()
    except (RedisError, OSError, TimeoutError) as exc:
        logger.bind(reason=f"{type(exc).__name__}: {exc}").warning("Redis not available")
        return False
    return True
