"""The atomic steps in Redis: no batch twice, nothing after an end, one holder of a claim."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest
from scripted_provider import STOP, USAGE, ScriptedProvider

from services.errors import StreamsUnavailable
from services.events import TextDelta
from services.streaming.following import Following
from services.streaming.log_redis import (
    ENDED,
    LOST,
    TIMEOUT,
    Batch,
    RedisLogs,
    Snapshot,
    open_redis_logs,
)
from services.streaming.store import Claim, Holder
from services.streaming.store_redis import RedisStreams

FRAMES = [b'event: token\ndata: {"text":"%d"}\nid: %d\n\n' % (n, n) for n in range(1, 6)]
DONE = b'event: done\ndata: {"finish_reason":"stop","events":6}\nid: 6\n\n'
CLAIM = Claim("user", "key", b"digest")


def batch(first: int, last: int, *, end: bool = False, stream_id: str = "s") -> Batch:
    frames = b"".join([*FRAMES, DONE][first - 1 : last])
    return Batch(stream_id, "user", CLAIM, first, last, frames, end)


@pytest.fixture
async def connect(redis, loop):
    """Logs as a process of that name has them."""
    async with AsyncExitStack() as stack:

        async def connected(process: str = "p", *, lease: float = 10.0) -> RedisLogs:
            return await stack.enter_async_context(
                open_redis_logs(redis.url, process=process, lease=lease, retention=60.0)
            )

        yield connected


async def test_a_batch_that_is_sent_twice_is_in_the_log_once(connect):
    """The answer to the first may have been lost with the connection."""
    logs = await connect()

    replies = [await logs.append([batch(1, 3)]) for _ in range(2)]
    snapshot = await logs.load("s")

    assert replies == [[3], [3]]
    assert snapshot == Snapshot("user", "p", "running", tuple(FRAMES[:3]))


async def test_a_batch_with_a_gap_before_it_is_refused_and_told_where_to_go_on(connect):
    logs = await connect()
    await logs.append([batch(1, 2)])

    assert await logs.append([batch(4, 5)]) == [2]
    assert await logs.append([batch(3, 5)]) == [5]


async def test_nothing_follows_an_end(connect):
    logs = await connect()
    await logs.append([batch(1, 6, end=True)])

    assert await logs.append([batch(6, 6)]) == [ENDED]
    assert (await logs.load("s")).state == "ended"


async def test_a_process_that_was_taken_for_dead_cannot_write_behind_the_end_others_were_told(
    connect,
):
    """It may only have been suspended; two ends of one stream would contradict each other."""
    late, other = await connect("late"), await connect("other")
    await late.append([batch(1, 2)])

    assert await other.lose("s", "late") == "lost"
    assert await late.append([batch(3, 4)]) == [LOST]
    assert (await other.load("s")).frames == tuple(FRAMES[:2])


async def test_the_streams_of_a_living_process_cannot_be_lost(connect):
    alive, other = await connect("alive"), await connect("other")
    await alive.renew()
    await alive.append([batch(1, 2)])

    assert await other.lose("s", "alive") == "running"
    assert await alive.append([batch(3, 4)]) == [4]


async def test_a_finished_stream_cannot_be_lost(connect):
    gone, other = await connect("gone"), await connect("other")
    await gone.append([batch(1, 6, end=True)])

    assert await other.lose("s", "gone") == "ended"
    assert await other.lose("unknown", "gone") == "gone"


async def test_a_claim_has_one_holder_who_may_ask_twice(connect):
    one, other = await connect("one"), await connect("other")

    assert await one.register("first", "user", CLAIM) is None
    assert await one.register("first", "user", CLAIM) is None
    assert await other.register("second", "user", CLAIM) == Holder("first", b"digest")
    assert await other.holder(CLAIM) == Holder("first", b"digest")


async def test_a_withdrawn_claim_is_free_and_a_foreign_one_stays(connect):
    logs = await connect()
    await logs.register("first", "user", CLAIM)

    await logs.withdraw("second", CLAIM)
    assert await logs.holder(CLAIM) == Holder("first", b"digest")
    await logs.withdraw("first", CLAIM)
    assert await logs.holder(CLAIM) is None
    assert await logs.load("first") is None


async def test_what_redis_forgot_is_declared_again_with_its_claim(connect, redis):
    logs = await connect()
    await logs.append([batch(1, 3)])
    redis.kill()
    redis.start()

    assert await logs.append([batch(4, 5)]) == [0]
    assert await logs.append([batch(1, 5)]) == [5]
    assert (await logs.load("s")).frames == tuple(FRAMES)
    assert await logs.holder(CLAIM) == Holder("s", b"digest")


async def test_messages_reach_the_process_they_are_for_in_order(connect):
    one, other = await connect("one"), await connect("other")

    await other.send([("one", "stop a"), ("two", "stop b"), ("one", "stop c")])

    assert await one.receive(wait=1.0) == ["stop a", "stop c"]
    assert await one.receive(wait=0.01) == []


async def test_a_redis_that_does_not_answer_is_one_kind_of_failure(connect, redis):
    logs = await connect()
    redis.kill()

    for call in (
        logs.renew(), logs.load("s"), logs.holder(CLAIM), logs.append([batch(1, 1)]),
        logs.tail({"s": 0}, wait=0.05), logs.receive(wait=0.05), logs.lose("s", "p"),
    ):  # fmt: skip
        with pytest.raises(StreamsUnavailable):
            await call


async def test_a_busy_process_does_not_take_redis_for_gone(connect):
    """The answer lies in the socket: in the chaos run whole bursts of streams began unannounced."""
    logs = await connect()
    await logs.append([batch(1, 3)])

    calls = [asyncio.create_task(logs.load("s")) for _ in range(20)]
    for _ in range(5):
        await asyncio.sleep(0)
        time.sleep(TIMEOUT / 2)  # noqa: ASYNC251 - this is how a busy loop looks from inside

    snapshots = await asyncio.gather(*calls)

    assert [len(snapshot.frames) for snapshot in snapshots] == [3] * 20


async def test_a_redis_that_accepts_and_says_nothing_is_given_up_in_time(connect, redis):
    logs = await connect()
    await logs.renew()
    redis.freeze()
    began = time.monotonic()
    try:
        with pytest.raises(StreamsUnavailable):
            await logs.load("s")
    finally:
        redis.thaw()

    assert time.monotonic() - began >= TIMEOUT * 0.9


async def test_a_stream_that_could_not_be_announced_is_known_elsewhere_before_it_says_a_word(
    start_node, redis
):
    """Redis was away when it began: a resume elsewhere once got 404 until the first event came."""
    variables = {"REDIS_URL": redis.url}
    one = await start_node(variables, provider=ScriptedProvider(None))
    other = await start_node(variables, provider=ScriptedProvider(None))
    redis.kill()
    async with one.client.ask(key="k") as local:
        redis.start()
        await asyncio.to_thread(redis.await_key, f"chat:stream:{local.stream_id}")

        async with other.client.resume(local.stream_id) as distant:
            assert distant.status == 200
        async with other.client.ask(key="k") as repeated:
            assert repeated.stream_id == local.stream_id


async def test_a_reader_ahead_of_a_copy_that_stays_behind_is_told_to_wait(connect):
    """It was told 400, that it is beyond the end: of a stream that had not ended (chaos under load)."""
    await (await connect()).append([batch(1, 2)])
    streams = RedisStreams(await connect(), catch_up=0.05)

    with pytest.raises(StreamsUnavailable) as raised:
        await streams.find("s", "user", 5, "resumed")

    assert raised.value.headers == {"retry-after": "1"}


async def test_a_follower_takes_overlapping_batches_once(connect):
    """After Redis forgot a log it is sent again, cut into other batches than before."""
    following = Following(await connect())
    await (await connect()).append([batch(1, 2)])
    stream = await following.find("s", "user", None)

    stream.take(3, FRAMES[:3])
    stream.take(2, FRAMES[:2])
    stream.take(6, [FRAMES[2], FRAMES[3], FRAMES[4], DONE])

    assert stream.log.read(0, limit=10_000)[0] == b"".join([*FRAMES, DONE])
    assert stream.log.ended


async def test_a_mirror_that_lost_its_place_finds_it(redis, start_node):
    """A node whose Redis forgets everything in mid-stream sends what is missing, and only that."""
    go_on = asyncio.Event()
    provider = ScriptedProvider([TextDelta("one ")], go_on, [TextDelta("two")], [USAGE, STOP])
    node = await start_node({"REDIS_URL": redis.url}, provider=provider)
    async with node.client.ask(resumable=True) as answer:
        await answer.next_event()
        await asyncio.to_thread(redis.await_key, f"chat:stream:{answer.stream_id}:log")
        redis.kill()
        redis.start()
        go_on.set()
        await answer.read_to_end()
    await asyncio.to_thread(redis.await_key, f"chat:stream:{answer.stream_id}:log")

    other = await start_node({"REDIS_URL": redis.url})
    async with other.client.resume(answer.stream_id) as elsewhere:
        await elsewhere.read_to_end()
    assert elsewhere.raw_events == answer.raw_events
