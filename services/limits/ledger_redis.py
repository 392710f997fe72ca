"""The ledger that all processes share, in Redis: each change is one atomic script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import ROUND_CEILING, Decimal
from hashlib import sha256
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.limits.ledger import LedgerUnavailable
from services.limits.quotas import WINDOW, Hold, Quota, Quotas, Settlement, Standing, utc_day

# A user has two keys: a hash (full_at, day, spent) and a sorted set of holds by expiry. Times are
# Redis's own, so the clocks of the processes don't matter. Money is in billionths of a dollar.
# A member of the set is `<worst case>:<hold id>`.
_TAKE = """
local window, interval, streams = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local budget, worst_case, day = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local account = redis.call('HMGET', KEYS[1], 'full_at', 'day', 'spent')
local debt = math.max(0, (tonumber(account[1]) or 0) - now)
if debt > window then
  -- Nobody can owe so much: Redis's clock was set back.
  debt = window
  redis.call('HSET', KEYS[1], 'full_at', string.format('%.6f', now + debt))
end
local spent = account[2] == day and tonumber(account[3]) or 0
local holds = redis.call('ZRANGE', KEYS[2], 0, -1)
local held = 0
for _, hold in ipairs(holds) do held = held + tonumber(string.match(hold, '^%d+')) end
local refused = ''
if debt + interval > window then refused = 'requests'
elseif #holds >= streams then refused = 'streams'
elseif budget >= 0 and spent + held + worst_case > budget then refused = 'budget'
else
  debt = debt + interval
  redis.call('HSET', KEYS[1], 'full_at', string.format('%.6f', now + debt))
  if redis.call('TTL', KEYS[1]) < 120 then redis.call('EXPIRE', KEYS[1], 120) end
  redis.call('ZADD', KEYS[2], now + tonumber(ARGV[8]), ARGV[7])
  redis.call('EXPIRE', KEYS[2], math.ceil(tonumber(ARGV[8])) + 1)
  holds[#holds + 1] = ARGV[7]
end
return {refused, string.format('%.6f', debt), #holds, string.format('%.0f', spent)}
"""

# Charged only if the hold was there: a settlement that is sent twice counts once. One that comes
# after a later day has begun no longer matters.
_SETTLE = """
local cost, day = tonumber(ARGV[2]), tonumber(ARGV[3])
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 or cost == 0 then return end
local last = tonumber(redis.call('HGET', KEYS[1], 'day')) or 0
if day > last then redis.call('HSET', KEYS[1], 'day', day, 'spent', cost)
elseif day == last then redis.call('HINCRBY', KEYS[1], 'spent', cost) end
redis.call('EXPIRE', KEYS[1], 172800)
"""

_RENEW = """
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] + time[2] / 1000000 + tonumber(ARGV[2]), ARGV[1])
redis.call('EXPIRE', KEYS[1], math.ceil(tonumber(ARGV[2])) + 1)
"""


class RedisLedger:
    """Keeps the quotas of all processes that share one Redis.

    A hold lapses *hold_for* seconds after it was taken or renewed, so that a process that dies
    leaves nothing behind. User ids are stored as hashes.
    """

    def __init__(
        self,
        client: Redis,
        quotas: Quotas,
        *,
        hold_for: float = 60.0,
        today: Callable[[], int] = utc_day,
    ) -> None:
        self._client = client
        self._quotas = quotas
        self._hold_for = hold_for
        self._today = today
        self._take = client.register_script(_TAKE)
        self._settle = client.register_script(_SETTLE)
        self._renew = client.register_script(_RENEW)

    async def take(self, hold: Hold) -> Standing:
        """Grant *hold* if every quota allows it, else change nothing. Raises `LedgerUnavailable`."""
        quotas = self._quotas
        budget = -1 if quotas.daily_budget is None else _billionths(quotas.daily_budget)
        async with _translated():
            refused, debt, streams, spent = await self._take(
                keys=self._keys(hold),
                args=[
                    WINDOW,
                    quotas.interval,
                    quotas.user_streams,
                    budget,
                    _billionths(hold.worst_case),
                    self._today(),
                    _member(hold),
                    self._hold_for,
                ],
            )
        return Standing(
            cast(Quota, refused.decode()) or None,
            float(debt),
            int(streams),
            Decimal(spent.decode()).scaleb(-9),
        )

    async def settle(self, ended: Sequence[Settlement]) -> None:
        """Give back each hold and charge its cost, where there is a budget. Raises `LedgerUnavailable`."""
        async with _translated(), self._client.pipeline(transaction=False) as pipeline:
            for end in ended:
                cost = 0 if self._quotas.daily_budget is None else _billionths(end.cost)
                await self._settle(
                    keys=self._keys(end.hold),
                    args=[_member(end.hold), cost, end.day],
                    client=pipeline,
                )
            await pipeline.execute()

    async def renew(self, holds: Sequence[Hold]) -> None:
        """Keep *holds* from expiring, and enter those it doesn't have. Raises `LedgerUnavailable`."""
        async with _translated(), self._client.pipeline(transaction=False) as pipeline:
            for hold in holds:
                await self._renew(
                    keys=self._keys(hold)[1:],
                    args=[_member(hold), self._hold_for],
                    client=pipeline,
                )
            await pipeline.execute()

    def _keys(self, hold: Hold) -> list[str]:
        # Braces: both keys in one slot of a cluster.
        account = f"chat:limits:{{{sha256(hold.user_id.encode()).hexdigest()[:32]}}}"
        return [account, f"{account}:holds"]


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError) as exc:
        raise LedgerUnavailable(f"{type(exc).__name__}: {exc}") from exc


def _member(hold: Hold) -> str:
    return f"{_billionths(hold.worst_case)}:{hold.id}"


def _billionths(dollars: Decimal) -> int:
    return int(dollars.scaleb(9).to_integral_value(ROUND_CEILING))
