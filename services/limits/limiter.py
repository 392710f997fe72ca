"""Admission: whether one more answer may start, decided before its first byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import count
from secrets import token_hex

from services.errors import Overloaded
from services.limits.ledger import LocalLedger, SharedLedger
from services.limits.quotas import (
    BUSY,
    Hold,
    Quotas,
    Settlement,
    Standing,
    headers,
    refusal,
    utc_day,
)
from services.limits.shared import SharedLimits


@asynccontextmanager
async def open_limits(
    quotas: Quotas,
    ledger: SharedLedger | None = None,
    *,
    renew_every: float = 20.0,
    patience: float = 0.25,
    retry: float = 5.0,
    today: Callable[[], int] = utc_day,
) -> AsyncIterator[Limits]:
    """Limits while the block runs: of this process, or with a shared *ledger* of all processes.

    Holds in the ledger are renewed every *renew_every* seconds; it has *patience* seconds to answer,
    and is left alone for *retry* seconds when it didn't. At the end, what was released last is
    settled there.
    """
    running: dict[str, Hold] = {}
    if ledger is None:
        yield Limits(quotas, running, today=today)
        return
    shared = SharedLimits(ledger, running, renew_every=renew_every, patience=patience, retry=retry)
    upkeep = asyncio.create_task(shared.keep_up(), name="limits")
    try:
        yield Limits(quotas, running, shared, today=today)
    finally:
        upkeep.cancel()
        await asyncio.wait([upkeep])
        await shared.settle()


class Limits:
    """Admits answers within the quotas; `running` are those that have not ended.

    The local ledger always counts. A shared one is asked besides, for it knows the other processes'
    answers; while it is out of reach, the local one alone decides.
    """

    def __init__(
        self,
        quotas: Quotas,
        running: dict[str, Hold],
        shared: SharedLimits | None = None,
        *,
        today: Callable[[], int] = utc_day,
    ) -> None:
        self.running: Mapping[str, Hold] = running
        self._running = running
        self._quotas = quotas
        self._local = LocalLedger(quotas, today=today)
        self._shared = shared
        self._today = today
        process = token_hex(8)
        self._ids = (f"{process}-{number}" for number in count())

    async def admit(self, user_id: str, *, worst_case: Decimal = Decimal(0)) -> Lease:
        """Leave for *user_id* to have one answer that costs *worst_case* dollars at most.

        In-process it waits for nothing, else for twice the shared ledger's patience at most. Raises
        `Overloaded`, `RateLimited` or `BudgetExceeded`; a refusal uses nothing up. Cancelled, it
        leaves no hold behind.
        """
        if len(self._running) >= self._quotas.process_streams:
            raise Overloaded(retry_after=BUSY)
        hold = Hold(next(self._ids), user_id, worst_case)
        standing = self._local.take(hold)
        if standing.refused is None:
            self._running[hold.id] = hold
            if self._shared is not None:
                standing = await self._confirm(self._shared, hold, standing)
        if standing.refused is not None:
            raise refusal(self._quotas, standing, worst_case)
        return Lease(self, hold, standing)

    def headers(self, standing: Standing) -> Mapping[str, str]:
        """What tells a user where *standing* is."""
        return headers(self._quotas, standing)

    def release(self, hold: Hold, actual_cost: Decimal | None) -> None:
        """End *hold*, unless it has ended before. See `Lease.release`."""
        if self._running.pop(hold.id, None) is None:
            return
        cost = hold.worst_case if actual_cost is None else actual_cost
        self._local.settle(hold, cost)
        if self._shared is not None:
            self._shared.end(Settlement(hold, cost, self._today()))

    async def _confirm(self, shared: SharedLimits, hold: Hold, standing: Standing) -> Standing:
        """What *shared* says of *hold*, else *standing*; a hold that is refused there ends here."""
        try:
            confirmed = await shared.take(hold)
        except BaseException:
            # Cancelled: it may have been granted, and giving back what was not does no harm.
            self.release(hold, Decimal(0))
            raise
        if confirmed is None:
            return standing
        if confirmed.refused is not None:
            del self._running[hold.id]
            self._local.undo(hold)
        return confirmed


class Lease:
    """Leave to answer once. Whoever holds it releases it, however the answer ends."""

    __slots__ = ("_hold", "_limits", "_standing")

    def __init__(self, limits: Limits, hold: Hold, standing: Standing) -> None:
        self._limits = limits
        self._hold = hold
        self._standing = standing

    @property
    def headers(self) -> Mapping[str, str]:
        """What may go out with the response; made when asked for, since most are not."""
        return self._limits.headers(self._standing)

    def release(self, actual_cost: Decimal | None = None) -> None:
        """Free the slot and charge *actual_cost* in dollars; None, not known: the worst case.

        Synchronous, never fails, and only the first call counts: made for a done-callback.
        """
        self._limits.release(self._hold, actual_cost)
