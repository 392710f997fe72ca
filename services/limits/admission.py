"""Admission of a turn: a hold within the limits, priced at its worst case until it has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal

from services.limits.limiter import Lease, Limits
from services.report import Report
from services.turn import Turn


class Place:
    """A turn's hold; `headers` tell its user what is left, and go out with the answer."""

    __slots__ = ("_lease",)

    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    @property
    def headers(self) -> Mapping[str, str]:
        """The fields of the answer's head."""
        return self._lease.headers

    def release(self, report: Report | None) -> None:
        """Free the slot, and charge what *report* says; None: there was no answer.

        An answer without a known price is charged nothing.
        """
        usage = None if report is None else report.usage
        cost = None if usage is None else usage.cost_usd
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
