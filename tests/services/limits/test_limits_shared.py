"""Limits that several processes share, and what happens when what they share goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from decimal import Decimal
from time import monotonic
from typing import Any

import pytest
from redis_server import RedisServer

from services.errors import BudgetExceeded, RateLimited
from services.limits.ledger_redis import RedisLedger
from services.limits.limiter import Limits, open_limits
from services.limits.quotas import Hold, Quotas, Settlement

Process = Callable[..., Awaitable[Limits]]


@pytest.fixture
async def process(
    loop: asyncio.AbstractEventLoop, redis_server: RedisServer
) -> AsyncIterator[Process]:
    """Opens the limits of one more process; all of them share the Redis."""
    async with AsyncExitStack() as stack:

        async def start(
            *,
            requests_per_minute: int = 1000,
            user_streams: int = 10,
            daily_budget: Decimal | None = None,
            hold_for: float = 60.0,
            **patience: Any,
        ) -> Limits:
            quotas = Quotas(requests_per_minute, user_streams, 100, daily_budget)
            ledger = RedisLedger(redis_server.client, quotas, hold_for=hold_for)
            return await stack.enter_async_context(
                open_limits(quotas, ledger, **({"patience": 5.0} | patience))
            )

        yield start


async def test_processes_share_the_requests_of_a_minute(process):
    one, other = await process(requests_per_minute=2), await process(requests_per_minute=2)
    await one.admit("ann")
    await other.admit("ann")

    with pytest.raises(RateLimited) as refused:
        await one.admit("ann")

    assert 20 < int(refused.value.headers["retry-after"]) <= 30
    assert len(one.running) == 1


async def test_processes_share_the_streams_of_a_user(process):
    one, other = await process(user_streams=2), await process(user_streams=2)
    await one.admit("ann")
    leaving = await other.admit("ann")
    for limits in (one, other):
        with pytest.raises(RateLimited):
            await limits.admit("ann")

    leaving.release()

    assert await _admits_soon(one)


async def test_a_clock_that_is_set_back_shuts_nobody_out(process, redis_server):
    """What is owed until then would be owed for as long as the clock went back."""
    limits = await process(requests_per_minute=60)
    (await limits.admit("ann")).release()
    [account] = [key async for key in redis_server.client.scan_iter("chat:limits:*}")]
    ahead = float(await redis_server.client.hget(account, "full_at")) + 3_600
    await redis_server.client.hset(account, "full_at", ahead)

    with pytest.raises(RateLimited) as refused:
        await limits.admit("ann")
    left = float(await redis_server.client.hget(account, "full_at"))

    assert int(refused.value.headers["retry-after"]) == 1
    assert left < ahead - 3_500


async def test_processes_share_the_budget_of_a_day(process):
    budget = Decimal("1.00")
    one, other = await process(daily_budget=budget), await process(daily_budget=budget)
    lease = await one.admit("ann", worst_case=Decimal("0.60"))
    with pytest.raises(BudgetExceeded):
        await other.admit("ann", worst_case=Decimal("0.60"))

    lease.release(Decimal("0.30"))

    assert await _admits_soon(other, worst_case=Decimal("0.60"))
    with pytest.raises(BudgetExceeded):
        await one.admit("ann", worst_case=Decimal("0.20"))


async def test_what_another_process_refuses_costs_no_token_here(process):
    """Else the local bucket would empty on refusals and outlast the shared one."""
    one, other = await process(user_streams=1), await process(user_streams=1)
    lease = await one.admit("ann")
    for _ in range(50):
        with pytest.raises(RateLimited):
            await other.admit("ann")

    lease.release()

    assert await _admits_soon(other)
    assert other._local._accounts["ann"].full_at - monotonic() < 0.2
    assert len(other.running) == 1


async def test_a_process_that_dies_leaves_no_slot_taken(process, redis_server):
    quotas = Quotas(1000, 1, 100)
    dead = RedisLedger(redis_server.client, quotas, hold_for=3.0)
    await dead.take(Hold("of-the-dead-1", "ann", Decimal(0)))
    survivor = await process(user_streams=2)
    await survivor.admit("ann")
    with pytest.raises(RateLimited):
        await survivor.admit("ann")

    assert await _admits_soon(survivor)


async def test_a_stream_keeps_its_slot_as_long_as_it_runs(process, redis_server):
    one = await process(user_streams=1, hold_for=3.0, renew_every=0.1)
    other = await process(user_streams=1)
    await one.admit("ann")
    admitted = monotonic()

    async def try_for_a_second() -> None:
        while monotonic() < admitted + 4.5:
            with suppress(RateLimited):
                await other.admit("ann")
                raise AssertionError("the slot of a running stream was given away")
            await asyncio.sleep(0.02)

    await try_for_a_second()


async def test_holds_that_redis_lost_are_entered_again(process, redis_server):
    one = await process(user_streams=1, renew_every=0.05)
    await one.admit("ann")
    await redis_server.client.flushall()

    for _ in range(6_000):
        if await redis_server.client.keys("*:holds"):
            break
        await asyncio.sleep(0.01)

    with pytest.raises(RateLimited):
        await (await process(user_streams=1)).admit("ann")


async def test_without_redis_each_process_keeps_its_own_limits(process, redis_server, lines):
    """Fail open: an outage of Redis stops nobody, and nobody gets more than one process's quota."""
    limits = await process(user_streams=2, requests_per_minute=4, retry=0.0)
    first = await limits.admit("ann")
    redis_server.kill()

    await limits.admit("ann")
    with pytest.raises(RateLimited):
        await limits.admit("ann")
    first.release()
    (await limits.admit("ann")).release()
    (await limits.admit("ann")).release()
    with pytest.raises(RateLimited) as refused:
        await limits.admit("ann")

    assert 10 < int(refused.value.headers["retry-after"]) <= 15
    assert lines == [("WARNING", "Shared limits not available")]


async def test_a_start_without_redis_admits_too(process, redis_server, lines):
    redis_server.kill()

    limits = await process()
    lease = await limits.admit("ann")

    assert lease.headers["ratelimit"].startswith('"requests";r=999;')
    assert lines == [("WARNING", "Shared limits not available")]


async def test_a_redis_that_hangs_is_waited_for_once_and_briefly(process, redis_server, lines):
    limits = await process(patience=1.0)
    await limits.admit("ann")
    redis_server.freeze()

    started = monotonic()
    await limits.admit("ann")
    waited = monotonic() - started
    started = monotonic()
    for _ in range(100):
        (await limits.admit("bob")).release()
    afterwards = monotonic() - started
    redis_server.thaw()

    assert 1.0 <= waited < 30
    assert afterwards < 30  # a hundred waits would be a hundred seconds
    assert lines == [("WARNING", "Shared limits not available")]


async def test_after_an_outage_the_limits_are_shared_again(process, redis_server, lines):
    one = await process(user_streams=1, retry=0.02, renew_every=0.05)
    redis_server.kill()
    lease = await one.admit("ann")
    redis_server.start()
    other = await process(user_streams=1)

    async def enter_during_outage() -> None:
        for _ in range(6_000):
            (await other.admit("ann")).release()
            await asyncio.sleep(0.01)

    with pytest.raises(RateLimited):
        await enter_during_outage()
    lease.release()
    assert await _admits_soon(other)

    assert lines == [
        ("WARNING", "Shared limits not available"),
        ("INFO", "Shared limits available again"),
    ]


async def test_what_ends_while_redis_hangs_is_settled_afterwards(process, redis_server):
    budget = Decimal(1)
    one = await process(daily_budget=budget, patience=0.05, retry=0.02, renew_every=0.05)
    lease = await one.admit("ann", worst_case=Decimal("0.90"))
    redis_server.freeze()
    lease.release(Decimal("0.80"))
    await one.admit("bob")
    redis_server.thaw()

    other = await process(daily_budget=budget)
    assert await _admits_soon(other, worst_case=Decimal("0.20"))
    with pytest.raises(BudgetExceeded):
        await other.admit("ann", worst_case=Decimal("0.01"))


async def test_a_settlement_sent_twice_counts_once(redis_server):
    """A settlement whose answer was lost is sent again."""
    quotas = Quotas(1000, 10, 100, Decimal(1))
    ledger = RedisLedger(redis_server.client, quotas, today=lambda: 20_000)
    hold = Hold("a-1", "ann", Decimal("0.50"))
    await ledger.take(hold)

    for _ in range(3):
        await ledger.settle([Settlement(hold, Decimal("0.25"), 20_000)])

    standing = await ledger.take(Hold("a-2", "ann", Decimal("0.75")))
    assert standing.refused is None
    assert standing.spent == Decimal("0.25")
    assert standing.streams == 1


async def test_a_settlement_counts_on_its_own_day_however_late(redis_server):
    day = 20_000
    quotas = Quotas(1000, 10, 100, Decimal(1))
    ledger = RedisLedger(redis_server.client, quotas, today=lambda: day)
    holds = [Hold(f"a-{number}", "ann", Decimal("0.10")) for number in range(3)]
    for hold in holds:
        await ledger.take(hold)
    day += 1

    await ledger.settle([Settlement(holds[0], Decimal("0.07"), day)])
    await ledger.settle([Settlement(holds[1], Decimal("0.03"), day - 1)])

    assert (await ledger.take(Hold("a-4", "ann", Decimal(0)))).spent == Decimal("0.07")


async def test_redis_holds_no_user_id_and_forgets_within_minutes(process, redis_server):
    limits = await process()
    lease = await limits.admit("ann@example.com")
    keys = await redis_server.client.keys("*")
    lifetimes = [await redis_server.client.ttl(key) for key in keys]
    lease.release(Decimal("0.10"))
    await limits.admit("bob")
    account = await redis_server.client.hkeys(min(keys))

    assert len(keys) == 2
    assert account == [b"full_at"]
    assert not [key for key in keys if b"ann" in key]
    assert all(0 < lifetime <= 120 for lifetime in lifetimes)


async def test_closing_settles_what_was_released_last(redis_server):
    quotas = Quotas(1000, 10, 100)
    ledger = RedisLedger(redis_server.client, quotas)

    async with open_limits(quotas, ledger) as limits:
        leases = [await limits.admit(f"user-{number}") for number in range(20)]
        for lease in leases:
            lease.release()

    assert await redis_server.client.keys("*:holds") == []


async def _admits_soon(limits: Limits, worst_case: Decimal = Decimal(0)) -> bool:
    for _ in range(6_000):
        with suppress(RateLimited, BudgetExceeded):
            await limits.admit("ann", worst_case=worst_case)
            return True
        await asyncio.sleep(0.01)
    return False
