"""What was on its way to Redis is there in the end, whatever was in its way; an outage is logged once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from logged import logged, phrase
from patience import PATIENCE, until

from services.errors import StreamsUnavailable
from services.events import Finish, TextDelta
from services.pricing import Prices
from services.report import Accountant, Report
from services.streaming.chat_stream import ChatStream
from services.streaming.log import Room
from services.streaming.log_redis import Batch, RedisLogs, State, open_redis_logs
from services.streaming.mirror import SLICE, Mirror
from services.streaming.store import Claim
from services.tokens import Tokenizer
from services.turn import Turn


async def _answer(turn: Turn):
    yield [TextDelta("word " * 20_000) for _ in range(4)]  # more than goes into one batch
    yield [Finish("stop")]


def _stream(on_end: Callable[[], None] = lambda: None) -> ChatStream:
    return ChatStream(
        "str_1",
        Report(Turn("req_1", "alice", "Hi", resumable=True), Accountant(Tokenizer(), Prices())),
        default_model="gpt-4o-mini",
        hooks=(),
        grace=30.0,
        max_bytes=1_000_000,
        room=Room(1_000_000),
        on_end=lambda _: on_end(),
    )


async def test_a_copy_that_was_cut_short_is_made_by_the_flush(redis):
    """Else readers in other processes are told of a lost stream, when the answer is complete."""
    ended = asyncio.Event()
    stream = _stream(ended.set)
    async with open_redis_logs(redis.url, process="p", lease=4.0, retention=60.0) as logs:
        mirror = Mirror(logs)
        await logs.register("str_1", "alice", None)
        mirror.publish(stream, None, announced=True)
        redis.freeze()
        task = asyncio.create_task(mirror.run())
        stream.start(_answer)
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
        assert stream.log.size > SLICE
        await asyncio.sleep(0.2)  # the copy is on its way
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE)
        redis.thaw()

        await mirror.flush()

        snapshot = await logs.load("str_1")
        assert snapshot is not None
        assert list(snapshot.frames) == [stream.log.read(n, 1)[0] for n in range(len(stream.log))]
        assert snapshot.state != "running"


class Leaving:
    """Logs that are out of reach while they are `away`."""

    def __init__(self) -> None:
        self.away = True
        self.asked = 0
        self.lost: list[tuple[str, str]] = []

    async def append(self, batches: Sequence[Batch]) -> list[int]:
        self.asked += 1
        if self.away:
            raise StreamsUnavailable
        return [batch.last for batch in batches]

    async def lose(self, stream_id: str, process: str) -> State:
        self.lost.append((stream_id, process))
        return "lost"

    async def withdraw(self, stream_id: str, claim: Claim | None) -> None:
        self.asked += 1
        if self.away:
            raise StreamsUnavailable


async def test_an_answer_that_is_forgotten_during_an_outage_is_lost_for_others():
    """They would wait for its end for as long as this process lives."""
    logs = Leaving()
    mirror = Mirror(cast(RedisLogs, logs))
    mirror.publish(stream := _stream(), None, announced=True)
    stream.stop("stopped")
    task = asyncio.create_task(mirror.run())
    try:
        await until(lambda: logs.asked >= 1)
        mirror.forget(stream)
        logs.away = False

        await until(lambda: logs.lost)
    finally:
        task.cancel()
        await asyncio.wait([task])

    assert logs.lost == [("str_1", "")]


async def test_an_outage_is_one_line_of_the_log_and_its_end_another():
    logs = Leaving()
    mirror = Mirror(cast(RedisLogs, logs))
    task = asyncio.create_task(mirror.run())
    with logged(phrase) as said:
        try:
            for _ in range(2):
                logs.away, logs.asked = True, 0
                mirror.withdraw("str_1", None)
                await until(lambda: logs.asked >= 3)
                logs.away = False
                await until(lambda: said[-1:] == ["Streams are shared again"])
        finally:
            task.cancel()
            await asyncio.wait([task])

    assert said == ["Streams could not be shared", "Streams are shared again"] * 2
