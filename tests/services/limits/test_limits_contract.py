"""What limits promise, in one process and with a Redis they share."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from redis_server import running_redis

from services.errors import BudgetExceeded, Overloaded, RateLimited
from services.limits.ledger_redis import RedisLedger
from services.limits.limiter import Lease, Limits, open_limits
from services.limits.quotas import Quotas
from services.redis_client import open_redis

Open = Callable[..., Awaitable[Limits]]

WIDE: dict[str, Any] = {"requests_per_minute": 1000, "user_streams": 10, "process_streams": 100}


@pytest.fixture(params=["in-process", "redis"])
async def opened(
    request: pytest.FixtureRequest, loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> AsyncIterator[Open]:
    """Opens limits with the given quotas; everything else is wide."""
    async with AsyncExitStack() as stack:
        client = None
        if request.param == "redis":
            server = stack.enter_context(running_redis(tmp_path))
            client = await stack.enter_async_context(open_redis(server.url))

        async def open_(today: Callable[[], int] = lambda: 20_000, **given: Any) -> Limits:
            quotas = Quotas(**(WIDE | given))
            ledger = client and RedisLedger(client, quotas, today=today)
            return await stack.enter_async_context(
                open_limits(quotas, ledger, today=today, patience=5.0)
            )

        yield open_


async def test_a_burst_of_one_minutes_requests_is_admitted_and_no_more(opened):
    limits = await opened(requests_per_minute=3)
    for _ in range(3):
        (await limits.admit("ann")).release()

    with pytest.raises(RateLimited) as refused:
        await limits.admit("ann")

    assert refused.value.status == 429
    assert refused.value.code == "RATE_LIMIT"
    wait = int(refused.value.headers["retry-after"])
    assert 10 < wait <= 20  # less what has passed meanwhile
    assert refused.value.headers == {
        "retry-after": f"{wait}",
        "ratelimit": f'"requests";r=0;t={wait},"streams";r=10',
        "ratelimit-policy": '"requests";q=3;w=60,"streams";q=10;qu="concurrent-requests"',
    }


async def test_what_is_left_is_told_with_every_answer(opened):
    limits = await opened(requests_per_minute=6, user_streams=2)

    first = await limits.admit("ann")
    second = await limits.admit("ann")

    assert first.headers["ratelimit"] == '"requests";r=5;t=10,"streams";r=1'
    assert re.fullmatch(
        r'"requests";r=4;t=([6-9]|10),"streams";r=0', second.headers["ratelimit"]
    )  # less what has passed meanwhile


async def test_the_bucket_fills_again_token_by_token(opened):
    limits = await opened(requests_per_minute=600)

    async def admit_all() -> None:
        for _ in range(700):
            (await limits.admit("ann")).release()

    with pytest.raises(RateLimited):
        await admit_all()

    assert await _admits_soon(limits)


async def test_users_do_not_share_a_quota(opened):
    limits = await opened(requests_per_minute=1, user_streams=1)
    await limits.admit("ann")

    await limits.admit("bob")

    with pytest.raises(RateLimited):
        await limits.admit("ann")


async def test_a_user_has_so_many_streams_at_once(opened):
    limits = await opened(user_streams=2)
    first = await limits.admit("ann")
    await limits.admit("ann")

    with pytest.raises(RateLimited) as refused:
        await limits.admit("ann")
    first.release()

    assert refused.value.headers["retry-after"] == "5"
    assert refused.value.headers["ratelimit"].endswith('"streams";r=0')
    assert refused.value.message == (
        "Too many answers are being written, please wait for one of them."
    )
    await limits.admit("ann")


async def test_a_process_has_so_many_streams_at_once(opened):
    limits = await opened(process_streams=2)
    first = await limits.admit("ann")
    await limits.admit("bob")

    with pytest.raises(Overloaded) as refused:
        await limits.admit("cem")
    first.release()

    assert refused.value.status == 503
    assert refused.value.headers == {"retry-after": "5"}
    await limits.admit("cem")


async def test_a_refusal_uses_nothing_up(opened):
    limits = await opened(requests_per_minute=3, user_streams=1)
    lease = await limits.admit("ann")
    for _ in range(10):
        with pytest.raises(RateLimited):
            await limits.admit("ann")
    lease.release()

    (await limits.admit("ann")).release()
    (await limits.admit("ann")).release()

    with pytest.raises(RateLimited):
        await limits.admit("ann")


async def test_running_streams_count_at_their_worst_case(opened):
    limits = await opened(daily_budget=Decimal("1.00"))
    first = await limits.admit("ann", worst_case=Decimal("0.40"))
    await limits.admit("ann", worst_case=Decimal("0.40"))

    with pytest.raises(BudgetExceeded) as refused:
        await limits.admit("ann", worst_case=Decimal("0.40"))
    first.release(Decimal("0.20"))

    assert refused.value.status == 429
    assert refused.value.code == "BUDGET_EXCEEDED"
    assert refused.value.headers["retry-after"] == "5"
    await limits.admit("ann", worst_case=Decimal("0.40"))


@pytest.mark.parametrize(
    ("running", "spent", "asked", "said"),
    [
        ("0.60", "0", "0.50", "Answers that are being written may use up the daily budget."),
        ("0", "0.60", "0.50", "The daily budget is used up."),
        ("0", "0", "1.01", "An answer to this may cost more than the budget of a whole day."),
    ],
)
async def test_a_budget_that_does_not_suffice_says_why(opened, running, spent, asked, said):
    limits = await opened(daily_budget=Decimal("1.00"))
    (await limits.admit("ann", worst_case=Decimal(spent))).release(Decimal(spent))
    await limits.admit("ann", worst_case=Decimal(running))

    with pytest.raises(BudgetExceeded) as refused:
        await limits.admit("ann", worst_case=Decimal(asked))

    assert refused.value.message == said


async def test_a_budget_that_is_spent_comes_back_at_midnight(opened):
    today = 20_000
    limits = await opened(daily_budget=Decimal("0.000001"), today=lambda: today)
    (await limits.admit("ann")).release(Decimal("0.000001"))

    with pytest.raises(BudgetExceeded) as refused:
        await limits.admit("ann", worst_case=Decimal("0.000000001"))
    today += 1

    assert 1 <= int(refused.value.headers["retry-after"]) <= 86_400
    await limits.admit("ann", worst_case=Decimal("0.000001"))


async def test_a_cost_counts_on_the_day_the_answer_ends(opened):
    today = 20_000
    limits = await opened(daily_budget=Decimal(1), today=lambda: today)
    over_midnight = await limits.admit("ann", worst_case=Decimal("0.60"))
    today += 1

    over_midnight.release(Decimal("0.60"))

    with pytest.raises(BudgetExceeded):
        await limits.admit("ann", worst_case=Decimal("0.50"))


async def test_a_cost_nobody_knows_is_the_worst_case(opened):
    limits = await opened(daily_budget=Decimal(1))

    (await limits.admit("ann", worst_case=Decimal("0.60"))).release()

    with pytest.raises(BudgetExceeded):
        await limits.admit("ann", worst_case=Decimal("0.50"))


async def test_without_a_budget_any_cost_is_admitted(opened):
    limits = await opened()

    (await limits.admit("ann", worst_case=Decimal(10**6))).release()

    await limits.admit("ann", worst_case=Decimal(10**6))


async def test_only_the_first_release_counts(opened):
    limits = await opened(user_streams=1, daily_budget=Decimal(1))
    first = await limits.admit("ann", worst_case=Decimal("0.40"))
    for _ in range(5):
        first.release(Decimal("0.40"))
    second = await limits.admit("ann", worst_case=Decimal("0.40"))

    first.release(Decimal("0.40"))

    assert list(limits.running) == [second._hold.id]
    with pytest.raises(RateLimited):
        await limits.admit("ann")
    second.release(Decimal("0.40"))
    await limits.admit("ann", worst_case=Decimal("0.20"))


async def test_thousands_of_random_endings_leak_nothing(opened):
    """However answers end, and whatever is released twice or cancelled, every slot comes back."""
    dice = random.Random(6)
    limits = await opened(
        requests_per_minute=100_000, user_streams=6, process_streams=20, daily_budget=Decimal(1000)
    )
    running: list[Lease] = []
    outcomes = dict.fromkeys(["admitted", "limited", "overloaded", "cancelled"], 0)
    for _ in range(3000):
        user = f"user-{dice.randrange(4)}"
        admission = asyncio.create_task(limits.admit(user, worst_case=Decimal("0.01")))
        if dice.random() < 0.2:
            for _ in range(dice.randrange(9)):
                await asyncio.sleep(0)
            admission.cancel()
        try:
            running.append(await admission)
            outcomes["admitted"] += 1
        except RateLimited:
            outcomes["limited"] += 1
        except Overloaded:
            outcomes["overloaded"] += 1
        except asyncio.CancelledError:
            outcomes["cancelled"] += 1
        while running and dice.random() < 0.45:
            lease = running.pop(dice.randrange(len(running)))
            for _ in range(dice.choice([1, 1, 2, 3])):
                lease.release(dice.choice([None, Decimal(0), Decimal("0.001")]))
    for lease in running:
        lease.release()

    assert all(count > 20 for count in outcomes.values()), outcomes
    assert not limits.running
    leases = [await limits.admit(f"user-{n % 4}") for n in range(20)]
    assert [lease.headers["ratelimit"][-1] for lease in leases[-4:]] == ["1", "1", "1", "1"]


async def _admits_soon(limits: Limits) -> bool:
    for _ in range(6_000):
        with suppress(RateLimited):
            await limits.admit("ann")
            return True
        await asyncio.sleep(0.01)
    return False
