"""The ledger: who has taken how much of their quotas, in this process and in all of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from time import monotonic
from typing import Protocol

from services.limits.quotas import WINDOW, Hold, Quota, Quotas, Settlement, Standing, utc_day


class LedgerUnavailable(Exception):
    """The shared ledger can't be reached, or doesn't work."""


class SharedLedger(Protocol):
    """A ledger that several processes write. Each method raises `LedgerUnavailable`."""

    async def take(self, hold: Hold) -> Standing:
        """Grant *hold* if every quota allows it, else change nothing."""
        ...

    async def settle(self, ended: Sequence[Settlement]) -> None:
        """Give back each hold and charge its cost; nothing for holds it doesn't have."""
        ...

    async def renew(self, holds: Sequence[Hold]) -> None:
        """Keep *holds* from expiring, and enter those it doesn't have."""
        ...


@dataclass(slots=True)
class _Account:
    full_at: float = 0.0
    holds: dict[str, Decimal] = field(default_factory=dict)
    day: int = 0
    spent: Decimal = Decimal(0)

    def is_idle(self, now: float, day: int) -> bool:
        """Whether forgetting it changes nothing."""
        return not self.holds and self.full_at <= now and (self.day != day or not self.spent)


class LocalLedger:
    """The ledger of one process: synchronous, exact, and as large as the users of the last minute.

    (Of the day, where there is a budget.) The token bucket is kept as one number, the time at which
    it will be full: taking a token moves it `interval` seconds on, and a request is refused that
    would move it further than the window away (the generic cell rate algorithm, ITU-T I.371).
    """

    def __init__(self, quotas: Quotas, *, today: Callable[[], int] = utc_day) -> None:
        self._quotas = quotas
        self._interval = quotas.interval
        self._today = today
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    def take(self, hold: Hold) -> Standing:
        """Grant *hold* if every quota allows it, else change nothing."""
        now, day = monotonic(), self._today()
        account = self._account(hold.user_id, now, day)
        debt = max(0.0, account.full_at - now)
        refused = self._refused(account, debt, hold.worst_case)
        if refused is None:
            debt += self._interval
            account.full_at = now + debt
            account.holds[hold.id] = hold.worst_case
        return Standing(refused, debt, len(account.holds), account.spent)

    def settle(self, hold: Hold, cost: Decimal) -> None:
        """Give *hold* back and charge *cost* dollars to the day it ends on."""
        account = self._account(hold.user_id, monotonic(), self._today())
        del account.holds[hold.id]
        if self._quotas.daily_budget is not None:
            account.spent += cost

    def undo(self, hold: Hold) -> None:
        """Give *hold* back, and its token: the request was refused elsewhere."""
        self.settle(hold, Decimal(0))
        self._accounts[hold.user_id].full_at -= self._interval

    def __len__(self) -> int:
        return len(self._accounts)

    def _refused(self, account: _Account, debt: float, worst_case: Decimal) -> Quota | None:
        quotas = self._quotas
        if debt + self._interval > WINDOW:
            return "requests"
        if len(account.holds) >= quotas.user_streams:
            return "streams"
        if (
            quotas.daily_budget is not None
            and account.spent + sum(account.holds.values()) + worst_case > quotas.daily_budget
        ):
            return "budget"
        return None

    def _account(self, user_id: str, now: float, day: int) -> _Account:
        account = self._accounts.get(user_id)
        if account is None:
            self._forget_idle(now, day)
            account = self._accounts[user_id] = _Account(day=day)
        if account.day != day:
            account.day, account.spent = day, Decimal(0)
        return account

    def _forget_idle(self, now: float, day: int) -> None:
        # Two looked at for one added: the ledger shrinks to those who are active, without a sweep.
        for _ in range(min(2, len(self._accounts))):
            user_id, account = self._accounts.popitem(last=False)
            if not account.is_idle(now, day):
                self._accounts[user_id] = account
