"""Admission of a turn: a hold within the limits, priced at its worst case until it has ended."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from services.limits import Lease, Limits
from services.report import Report
from services.turn import Turn


class Place:
    """A turn's hold; released with what the turn really cost."""

    __slots__ = ("_lease",)

    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    def release(self, report: Report) -> None:
        """Free the slot. An answer without a known price is charged nothing."""
        cost = report.usage.cost_usd if report.usage is not None else None
        self._lease.release(cost or Decimal(0))


class Admission:
    """Admits turns within *limits*; *worst_case* says what one may cost at most, in dollars."""

    def __init__(self, limits: Limits, worst_case: Callable[[Turn], Decimal]) -> None:
        self._limits = limits
        self._worst_case = worst_case

    async def admit(self, turn: Turn) -> Place:
        """A place for *turn*. Raises `RateLimited`, `BudgetExceeded` or `Overloaded`."""
        lease = await self._limits.admit(turn.user_id, worst_case=self._worst_case(turn))
        return Place(lease)
