"""Stream logs in Redis: what is kept there of a stream, and the few atomic steps that change it.

Per stream there is a log (a Redis Stream; an entry is a batch of frames, its id the number of the
last one) and a hash: whose it is, which process produces it, how many frames there are, and how it
ended. Every change to them is one script, so a late process can't write past an end, and a batch
that is sent twice is in the log once. One Redis, not a Cluster: the scripts span keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.errors import StreamsUnavailable
from services.redis_client import open_redis
from services.streaming import sse
from services.streaming.patience import patience
from services.streaming.store import Claim, Holder

# Longer than any answer runs, should its process die with nobody to notice.
RUNNING: Final = 3_600.0
TIMEOUT: Final = 1.0  # seconds for one command
_INBOX: Final = 60.0
_BATCHES: Final = 100  # entries per stream and read

State: TypeAlias = Literal["running", "ended", "lost", "gone"]

ENDED: Final = -1
LOST: Final = -2

_REGISTER = """
if KEYS[2] then
  local held = redis.call('GET', KEYS[2])
  if held and held ~= ARGV[4] then return held end
  redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[3])
  redis.call('HSET', KEYS[1], 'claim', KEYS[2])
end
redis.call('HSET', KEYS[1], 'user', ARGV[1], 'process', ARGV[2], 'at', 0)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return false
"""

_WITHDRAW = """
if KEYS[2] and redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
redis.call('DEL', KEYS[1])
redis.call('DEL', KEYS[1] .. ':log')
"""

# Whose stream it was, if it was erased, or nothing if it runs; process ARGV[1] asks, which has ended its own.
_ERASE = """
local process = redis.call('HGET', KEYS[1], 'process')
if process and process ~= ARGV[1] and redis.call('HEXISTS', KEYS[1], 'state') == 0 then
  if redis.call('EXISTS', ARGV[2] .. process) == 1 then return false end
end
local claim = redis.call('HGET', KEYS[1], 'claim')
if claim then
  local held = redis.call('GET', claim)
  if held and string.sub(held, -#ARGV[3]) == ARGV[3] then redis.call('DEL', claim) end
end
redis.call('DEL', KEYS[1], KEYS[2])
return process or ''
"""

# Answers how many frames are there: ARGV[2] if these were taken, fewer if others are missing before
# them (or were just asked for, by ARGV[1] = 0), -1 or -2 if nothing can follow.
_APPEND = """
local state = redis.call('HGET', KEYS[1], 'state')
if state == 'ended' then return -1 end
if state == 'lost' then return -2 end
local at = redis.call('HGET', KEYS[1], 'at')
if not at then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'user', ARGV[5], 'process', ARGV[6], 'at', 0)
  if KEYS[3] then
    redis.call('SET', KEYS[3], ARGV[7], 'NX', 'PX', ARGV[8])
    redis.call('HSET', KEYS[1], 'claim', KEYS[3])
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[8])
  at = 0
end
if at + 1 ~= tonumber(ARGV[1]) then return tonumber(at) end
redis.call('XADD', KEYS[2], ARGV[2] .. '-0', 'frames', ARGV[3])
redis.call('HSET', KEYS[1], 'at', ARGV[2])
local keep = ARGV[8]
if ARGV[4] == '1' then
  redis.call('HSET', KEYS[1], 'state', 'ended')
  keep = ARGV[9]
  if KEYS[3] and redis.call('GET', KEYS[3]) == ARGV[7] then redis.call('PEXPIRE', KEYS[3], keep) end
end
redis.call('PEXPIRE', KEYS[1], keep)
redis.call('PEXPIRE', KEYS[2], keep)
return tonumber(ARGV[2])
"""

_LOSE = """
local state = redis.call('HGET', KEYS[1], 'state')
if state then return state end
if redis.call('EXISTS', KEYS[1]) == 0 then return 'gone' end
if redis.call('EXISTS', KEYS[3]) == 1 then return 'running' end
redis.call('HSET', KEYS[1], 'state', 'lost')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
local claim = redis.call('HGET', KEYS[1], 'claim')
if claim then redis.call('PEXPIRE', claim, ARGV[1]) end
return 'lost'
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames number *first* to *last* of a stream; `first=0` only asks how many are there."""

    stream_id: str
    user_id: str
    claim: Claim | None
    first: int
    last: int
    frames: bytes
    end: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A stream as it is in Redis now."""

    user_id: str
    process: str
    state: State
    frames: tuple[bytes, ...]


class RedisLogs:
    """What one *process* does to the stream logs in Redis; *lease* and *retention* in seconds.

    Every method raises `StreamsUnavailable` if Redis does not answer.
    """

    def __init__(
        self, redis: Redis, waiting: Redis, *, process: str, lease: float, retention: float
    ) -> None:
        self._redis = redis
        self._waiting = waiting
        self.process = process
        self.lease = lease
        self._retention = _ms(retention)

    async def register(self, stream_id: str, user_id: str, claim: Claim | None) -> Holder | None:
        """Announce a stream and take its claim, or say who has that."""
        keys = [_meta(stream_id), *_claim_keys(claim)]
        value = _claim_value(stream_id, claim)
        call = self._script(_REGISTER, keys, user_id, self.process, _ms(RUNNING), value)
        held = await self._answer(call)
        return None if held is None else _holder(held)

    async def withdraw(self, stream_id: str, claim: Claim | None) -> None:
        """Forget a stream that was registered and refused."""
        keys = [_meta(stream_id), *_claim_keys(claim)]
        await self._answer(self._script(_WITHDRAW, keys, _claim_value(stream_id, claim)))

    async def erase(self, stream_ids: Sequence[str]) -> dict[str, str]:
        """Erase those of the streams that do not run; of each its process, or nothing."""
        pipeline = self._redis.pipeline(transaction=False)
        for stream_id in stream_ids:
            keys = (_meta(stream_id), _log(stream_id))
            pipeline.eval(_ERASE, len(keys), *keys, self.process, _lease(""), stream_id)
        replies = await self._answer(pipeline.execute())
        return {
            stream_id: reply.decode()
            for stream_id, reply in zip(stream_ids, replies, strict=True)
            if reply is not None
        }

    async def append(self, batches: Sequence[Batch]) -> list[int]:
        """Add *batches* of different streams in one round trip; for each what `_APPEND` says."""
        pipeline = self._redis.pipeline(transaction=False)
        for batch in batches:
            meta, log = _meta(batch.stream_id), _log(batch.stream_id)
            keys = [meta, log, *_claim_keys(batch.claim)]
            arguments = (
                batch.first,
                batch.last,
                batch.frames,
                int(batch.end),
                batch.user_id,
                self.process,
                _claim_value(batch.stream_id, batch.claim),
                _ms(RUNNING),
                self._retention,
            )
            pipeline.eval(_APPEND, len(keys), *keys, *arguments)
        return [int(reply) for reply in await self._answer(pipeline.execute())]

    async def holder(self, claim: Claim) -> Holder | None:
        """The stream that has *claim*."""
        held = await self._answer(self._redis.get(_claim_keys(claim)[0]))
        return None if held is None else _holder(held)

    async def load(self, stream_id: str) -> Snapshot | None:
        """A stream with all its frames."""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hmget(_meta(stream_id), ["user", "process", "state"])
        pipeline.xrange(_log(stream_id))
        (user, process, state), entries = await self._answer(pipeline.execute())
        if user is None:
            return None
        return Snapshot(user.decode(), process.decode(), _state(state), _frames(entries))

    async def tail(
        self, positions: Mapping[str, int], *, wait: float
    ) -> dict[str, tuple[int, tuple[bytes, ...]]]:
        """What follows *positions*, waiting up to *wait* seconds for any: last number, frames."""
        ids = {_log(stream_id).encode(): stream_id for stream_id in positions}
        after: dict[Any, Any] = {_log(each): f"{at}-0" for each, at in positions.items()}
        call = self._waiting.xread(after, count=_BATCHES, block=_ms(wait))
        found = await self._answer(call, wait + TIMEOUT) or []
        pairs = found.items() if isinstance(found, dict) else found
        return {
            ids[key]: (int(entries[-1][0].partition(b"-")[0]), _frames(entries))
            for key, entries in pairs
        }

    async def states(
        self, processes: Mapping[str, str]
    ) -> tuple[dict[str, bool], dict[str, State | None]]:
        """Of streams and their *processes*: which process lives, and how each stream stands."""
        names = sorted(set(processes.values()))
        pipeline = self._redis.pipeline(transaction=False)
        for name in names:
            pipeline.exists(_lease(name))
        for stream_id in processes:
            pipeline.hmget(_meta(stream_id), ["user", "state"])
        replies = await self._answer(pipeline.execute())
        alive = {name: bool(reply) for name, reply in zip(names, replies, strict=False)}
        stands: dict[str, State | None] = {}
        for stream_id, (user, state) in zip(processes, replies[len(names) :], strict=True):
            stands[stream_id] = None if user is None else _state(state)
        return alive, stands

    async def lose(self, stream_id: str, process: str) -> State:
        """End a stream for good whose *process* has lost its lease; how it stands now."""
        keys = [_meta(stream_id), _log(stream_id), _lease(process)]
        reply = await self._answer(self._script(_LOSE, keys, self._retention))
        return cast(State, reply.decode())

    async def renew(self) -> bool:
        """Say that this process lives; False if Redis did not know it."""
        call = self._redis.set(_lease(self.process), 1, px=_ms(self.lease), get=True)
        return await self._answer(call) is not None

    async def leave(self) -> None:
        """Say that this process is gone."""
        await self._answer(self._redis.delete(_lease(self.process)))

    async def send(self, messages: Sequence[tuple[str, str]]) -> None:
        """Put messages into the inboxes of processes."""
        pipeline = self._redis.pipeline(transaction=False)
        for process, message in messages:
            pipeline.rpush(_inbox(process), message)
            pipeline.pexpire(_inbox(process), _ms(_INBOX))
        await self._answer(pipeline.execute())

    async def receive(self, *, wait: float) -> list[str]:
        """The messages in this process's inbox, waiting up to *wait* seconds for the first."""
        inbox = _inbox(self.process)
        call = self._waiting.blpop([inbox], timeout=wait)
        first = await self._answer(call, wait + TIMEOUT)
        if first is None:
            return []
        more = await self._answer(self._redis.lpop(inbox, 1000)) or []
        return [message.decode() for message in (first[1], *more)]

    def _script(self, script: str, keys: list[str], *arguments: Any) -> Awaitable[Any]:
        return self._redis.eval(script, len(keys), *keys, *arguments)

    async def _answer(self, call: Awaitable[Any], limit: float = TIMEOUT) -> Any:
        task = asyncio.current_task()
        cancelled = task.cancelling() if task else 0
        try:
            async with patience(limit):
                answer = await call
        except (RedisError, OSError, TimeoutError) as exc:
            raise StreamsUnavailable(f"Redis: {type(exc).__name__}", retry_after=1) from exc
        finally:
            # `asyncio.wait_for`, in redis-py's connecting, may swallow a cancellation (cpython#86296).
            if task and task.cancelling() > cancelled:
                raise asyncio.CancelledError
        return answer


@asynccontextmanager
async def open_redis_logs(
    url: str, *, process: str, lease: float, retention: float
) -> AsyncIterator[RedisLogs]:
    """The logs in the Redis at *url*; connects when first used, and again whenever it must."""
    async with open_redis(url) as redis, open_redis(url) as waiting:
        for client in (redis, waiting):
            # Once more at once: a pooled connection may have died while nobody used it.
            client.set_retry(Retry(NoBackoff(), 1))
        yield RedisLogs(redis, waiting, process=process, lease=lease, retention=retention)


def _frames(entries: Sequence[Any]) -> tuple[bytes, ...]:
    return sse.split(b"".join(fields[b"frames"] for _, fields in entries))


def _state(value: bytes | None) -> State:
    return "running" if value is None else cast(State, value.decode())


def _holder(value: bytes) -> Holder:
    digest, _, stream_id = value.decode().partition(" ")
    return Holder(stream_id, bytes.fromhex(digest))


def _claim_value(stream_id: str, claim: Claim | None) -> str:
    return "" if claim is None else f"{claim.digest.hex()} {stream_id}"


def _claim_keys(claim: Claim | None) -> list[str]:
    return [] if claim is None else [f"chat:claim:{claim.name}"]


def _meta(stream_id: str) -> str:
    return f"chat:stream:{stream_id}"


def _log(stream_id: str) -> str:
    return f"chat:stream:{stream_id}:log"


def _lease(process: str) -> str:
    return f"chat:process:{process}"


def _inbox(process: str) -> str:
    return f"chat:process:{process}:inbox"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
