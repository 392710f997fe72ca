"""What was on its way to Redis when the process began to end is there in the end."""

from __future__ import annotations

import asyncio

from patience import PATIENCE

from services.events import Finish, TextDelta
from services.pricing import Prices
from services.report import Accountant, Report
from services.streaming.chat_stream import ChatStream
from services.streaming.log import Room
from services.streaming.log_redis import open_redis_logs
from services.streaming.mirror import SLICE, Mirror
from services.tokens import Tokenizer
from services.turn import Turn


async def _answer(turn: Turn):
    yield [TextDelta("word " * 20_000) for _ in range(4)]  # more than goes into one batch
    yield [Finish("stop")]


async def test_a_copy_that_was_cut_short_is_made_by_the_flush(redis):
    """Else readers in other processes are told of a lost stream, when the answer is complete."""
    ended = asyncio.Event()
    stream = ChatStream(
        "str_1",
        Report(Turn("req_1", "alice", "Hi", resumable=True), Accountant(Tokenizer(), Prices())),
        default_model="gpt-4o-mini",
        hooks=(),
        grace=30.0,
        max_bytes=1_000_000,
        room=Room(1_000_000),
        on_end=lambda _: ended.set(),
    )
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
