"""Cancellation is the only stop signal, and redis-py drops some of it."""

from __future__ import annotations

import asyncio

import pytest
from patience import PATIENCE

from services.streaming.log_redis import open_redis_logs


@pytest.mark.parametrize("steps", range(40))
async def test_a_cancelled_call_never_goes_on(redis, steps: int):
    """A task that outlives its cancellation hangs the shutdown that waits for it."""
    async with open_redis_logs(redis.url, process="p", lease=4.0, retention=60.0) as logs:

        async def renew_for_ever() -> None:
            while True:
                await logs.renew()
                await asyncio.sleep(3600)

        task = asyncio.create_task(renew_for_ever())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        _, pending = await asyncio.wait([task], timeout=PATIENCE)

        for each in pending:
            each.cancel()
        assert not pending
