"""Quotas: what a user may have, where one stands, and how a refusal is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import ceil, floor
from time import time
from typing import Literal, TypeAlias

from services.errors import BudgetExceeded, RateLimited, ServiceError

WINDOW = 60.0

# A quota of so many is as good as none, and nobody is told of it.
UNLIMITED = 1_000_000

# When a running answer stands in the way, nobody knows how long it will take. Seconds.
BUSY = 5.0

# Tokens: without it, six sevenths of a minute could be five tokens and a bit.
ROUNDING = 1e-6

_DAY = 86_400

Quota: TypeAlias = Literal["requests", "streams", "budget"]


@dataclass(frozen=True, slots=True)
class Quotas:
    """How much is allowed: per user, and (`process_streams`) for the whole process.

    `daily_budget` is in US dollars for one UTC day; None: no budget.
    """

    requests_per_minute: int
    user_streams: int
    process_streams: int
    daily_budget: Decimal | None = None

    @property
    def interval(self) -> float:
        """Seconds until the bucket has one more token."""
        return WINDOW / self.requests_per_minute


@dataclass(frozen=True, slots=True)
class Hold:
    """What one running stream occupies: a slot of its user, and the most it may cost."""

    id: str
    user_id: str
    worst_case: Decimal


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of a hold: what it cost in dollars, and the UTC day it counts on."""

    hold: Hold
    cost: Decimal
    day: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a user stands once a hold was granted, or `refused` for the quota that is used up.

    `debt`: seconds until the token bucket is full again. `streams`: how many are running.
    `spent`: dollars of today, without the running streams' holds.
    """

    refused: Quota | None
    debt: float
    streams: int
    spent: Decimal


def utc_day() -> int:
    """Today in UTC, as days since 1970."""
    return int(time() // _DAY)


def headers(quotas: Quotas, standing: Standing) -> Mapping[str, str]:
    """The `RateLimit` fields (draft-ietf-httpapi-ratelimit-headers-11), of the quotas there are.

    `t` is when one more request will be possible, so it never ends after `Retry-After`.
    """
    policy, left = [], []
    if quotas.requests_per_minute < UNLIMITED:
        policy.append(f'"requests";q={quotas.requests_per_minute};w=60')
        ready = _tokens(quotas, standing)
        wait = ""
        if ready < quotas.requests_per_minute:
            wait = f";t={max(1, ceil(_wait(quotas, standing, ready)))}"
        left.append(f'"requests";r={ready}{wait}')
    if quotas.user_streams < UNLIMITED:
        policy.append(f'"streams";q={quotas.user_streams};qu="concurrent-requests"')
        left.append(f'"streams";r={max(0, quotas.user_streams - standing.streams)}')
    if not policy:
        return {}
    return {"ratelimit-policy": ",".join(policy), "ratelimit": ",".join(left)}


def refusal(quotas: Quotas, standing: Standing, worst_case: Decimal) -> ServiceError:
    """The error that says why *standing* is a refusal of something that costs *worst_case*."""
    fields = headers(quotas, standing)
    if standing.refused == "budget":
        message, wait = _why_too_dear(quotas.daily_budget or Decimal(0), standing, worst_case)
        return BudgetExceeded(message, headers=fields, retry_after=wait)
    if standing.refused == "streams":
        message = "Too many answers are being written, please wait for one of them."
        return RateLimited(message, headers=fields, retry_after=BUSY)
    return RateLimited(headers=fields, retry_after=_wait(quotas, standing, 0))


def _tokens(quotas: Quotas, standing: Standing) -> int:
    return max(0, floor((WINDOW - standing.debt) / quotas.interval + ROUNDING))


def _wait(quotas: Quotas, standing: Standing, ready: int) -> float:
    """Seconds until there is one token more than *ready*."""
    return standing.debt + (ready + 1) * quotas.interval - WINDOW


def _why_too_dear(
    budget: Decimal, standing: Standing, worst_case: Decimal
) -> tuple[str | None, float]:
    """What to say of it beside the usual, and the seconds until it may be otherwise."""
    tomorrow = _DAY - time() % _DAY
    if worst_case > budget:
        return "An answer to this may cost more than the budget of a whole day.", tomorrow
    if standing.spent + worst_case <= budget:
        return "Answers that are being written may use up the daily budget.", BUSY
    return None, tomorrow
