"""A shared ledger that takes its time: nothing is admitted, or kept, meanwhile that should not be."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal

from services.limits.limiter import Lease, open_limits
from services.limits.quotas import Hold, Quotas, Settlement, Standing


class SlowLedger:
    """Grants every hold, once it is told to."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.settled: list[Settlement] = []

    async def take(self, hold: Hold) -> Standing:
        self.asked.set()
        await self.answer.wait()
        return Standing(None, 0.0, 1, Decimal(0))

    async def settle(self, ended: Sequence[Settlement]) -> None:
        self.settled += ended

    async def renew(self, holds: Sequence[Hold]) -> None:
        raise AssertionError("nothing runs long enough")


async def test_a_client_that_leaves_while_it_is_admitted_leaves_no_slot_taken():
    ledger = SlowLedger()

    async with open_limits(Quotas(1000, 1, 1), ledger) as limits:
        admission = asyncio.create_task(limits.admit("ann", worst_case=Decimal(1)))
        await ledger.asked.wait()
        admission.cancel()
        await asyncio.wait([admission])
        ledger.answer.set()
        lease = await limits.admit("ann")

    assert admission.cancelled()
    assert isinstance(lease, Lease)
    assert [(end.hold.user_id, end.cost) for end in ledger.settled] == [("ann", Decimal(0))]


async def test_a_process_never_admits_more_while_redis_makes_up_its_mind():
    """The slot is taken before the wait, so two at once can't have the last one."""
    ledger = SlowLedger()

    async with open_limits(Quotas(1000, 10, 5), ledger) as limits:
        admissions = [asyncio.create_task(limits.admit(f"user-{n}")) for n in range(50)]
        await ledger.asked.wait()
        ledger.answer.set()
        outcomes = await asyncio.gather(*admissions, return_exceptions=True)

    assert len([lease for lease in outcomes if isinstance(lease, Lease)]) == 5
