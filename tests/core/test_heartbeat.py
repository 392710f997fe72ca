from __future__ import annotations

import asyncio
import re
import time

import pytest
from patience import PATIENCE

from services.streaming.heartbeat import HeartbeatWheel


class Listener:
    """Notes its beats and when they came."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.times: list[float] = []
        self.beaten = asyncio.Event()

    def beat(self, frame: bytes) -> None:
        self.frames.append(frame)
        self.times.append(time.monotonic())
        self.beaten.set()

    async def beats(self, count: int) -> None:
        """Wait until it was beaten *count* times."""
        async with asyncio.timeout(PATIENCE):
            while len(self.frames) < count:
                self.beaten.clear()
                await self.beaten.wait()


@pytest.fixture
def wheel(loop):
    wheel = HeartbeatWheel(0.1)
    loop.call_soon(wheel.start)
    yield wheel
    wheel.stop()


async def test_a_heartbeat_is_a_comment_with_the_time_in_milliseconds(wheel):
    listener = Listener()
    before = time.time() * 1000

    wheel.join(listener)
    await listener.beats(1)

    found = re.fullmatch(rb": heartbeat ([0-9]{13})\n\n", listener.frames[0])
    assert before - 1 <= int(found[1]) <= time.time() * 1000


async def test_beats_come_one_interval_after_joining_and_after_each_other(wheel):
    listener = Listener()
    await asyncio.sleep(0)
    joined = time.monotonic()

    wheel.join(listener)
    await listener.beats(5)

    # A slot early is allowed; late is what the machine is. Five intervals do not drift apart.
    assert listener.times[0] - joined >= 0.097
    assert listener.times[4] - joined >= 0.497


async def test_who_has_left_is_beaten_no_more(wheel):
    leaver, stayer = Listener(), Listener()
    wheel.join(leaver)
    wheel.join(stayer)

    await leaver.beats(1)
    wheel.leave(leaver)
    wheel.leave(leaver)
    await stayer.beats(3)

    assert len(leaver.frames) == 1
    assert len(wheel) == 1


async def test_a_listener_may_leave_while_it_is_beaten(wheel):
    class Leaver(Listener):
        def beat(self, frame: bytes) -> None:
            super().beat(frame)
            wheel.leave(self)

    leaver, stayer = Leaver(), Listener()
    for each in (leaver, stayer):
        wheel.join(each)

    await stayer.beats(2)

    assert len(leaver.frames) == 1


async def test_a_blocked_loop_costs_beats_no_listener(wheel):
    """Turns that came late are caught up with: nobody's slot is skipped."""
    listeners = [Listener() for _ in range(20)]
    for listener in listeners:
        wheel.join(listener)
        await asyncio.sleep(0.002)

    time.sleep(0.25)  # noqa: ASYNC251 - the very thing that must not matter
    for listener in listeners:
        await listener.beats(2)


async def test_a_stopped_wheel_beats_nobody(wheel):
    listener = Listener()
    wheel.join(listener)
    await listener.beats(1)

    wheel.stop()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(listener.beats(2), 0.2)
