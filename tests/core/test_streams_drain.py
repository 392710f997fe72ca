from __future__ import annotations

import asyncio

import pytest
from endings import PROMPT
from patience import PATIENCE
from scripted_provider import STOP, USAGE, ScriptedProvider

from services.errors import Draining
from services.events import TextDelta
from services.streaming.streams import Policy, Streams
from services.turn import Turn
from tests.core.conftest import names, wire


class Place:
    """A lease that notes its end."""

    def __init__(self) -> None:
        self.released = 0

    def release(self, report) -> None:
        self.released += 1


class Reader:
    """Reads nothing, but is there."""

    def wake(self) -> None:
        pass


class Door:
    """Where newcomers wait until it opens."""

    def __init__(self) -> None:
        self.at = asyncio.Event()
        self.opens = asyncio.Event()


class House:
    """`Streams` with a provider that plays a script."""

    def __init__(self, accountant, *steps, door=None, observers=(), policy=None) -> None:
        self.provider = ScriptedProvider(*steps)
        self.places: list[Place] = []
        self.told = []
        self._door = door
        self.streams = Streams(
            lambda turn: self.provider.stream(PROMPT),
            accountant,
            default_model="gpt-4o-mini",
            observers=[*observers, self.told.append],
            policy=policy,
        )

    async def admit(self, turn):
        if self._door is not None:
            self._door.at.set()
            await self._door.opens.wait()
        self.places.append(Place())
        return self.places[-1].release

    async def opened(self, **fields):
        return await self.streams.open(Turn("req_1", "alice", "Hello", **fields), self.admit)


@pytest.fixture
def make_house(accountant):
    return lambda *steps, **options: House(accountant, *steps, **options)


async def test_a_drain_waits_for_what_finishes_in_time(make_house):
    go_on = asyncio.Event()
    house = make_house([TextDelta("Hello")], go_on, [USAGE, STOP])
    stream = await house.opened()
    with stream.attach(Reader()):
        house.streams.start(stream)
        await house.provider.started.wait()

        draining = asyncio.ensure_future(house.streams.drain(30.0))
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.wait_for(draining, PATIENCE)

        assert names(wire(stream)) == ["token", "usage", "done"]
        assert wire(stream).endswith(b'{"finish_reason":"stop"}\n\n')


async def test_what_does_not_finish_is_told_and_everything_is_given_back(make_house):
    house = make_house([TextDelta("Hello")], None)
    streams = [await house.opened(resumable=resumable) for resumable in (False, True, False)]
    readers = [stream.attach(Reader()) for stream in streams]
    for stream, reader in zip(streams, readers, strict=True):
        reader.__enter__()
        house.streams.start(stream)
    await house.provider.started.wait()

    await asyncio.wait_for(house.streams.drain(0.01), PATIENCE)

    for stream in streams:
        assert b'"finish_reason":"error","code":"SERVER_ERROR"' in wire(stream)
        assert names(wire(stream)).count("done") == 1
    assert [place.released for place in house.places] == [1, 1, 1]
    assert house.told == streams
    assert house.provider.running == 0
    assert len(house.streams) == 0
    for reader in readers:
        reader.__exit__(None, None, None)


async def test_a_stream_that_never_started_is_drained_too(make_house):
    """Its client may be slow to take the first comment."""
    house = make_house([TextDelta("Hello")], [STOP])
    stream = await house.opened()

    with stream.attach(Reader()):
        await asyncio.wait_for(house.streams.drain(0.0), PATIENCE)

        assert names(wire(stream)) == ["token", "done"]
    assert house.provider.asked == []


async def test_nobody_is_admitted_to_a_house_that_is_closing(make_house):
    house = make_house([STOP])

    await house.streams.drain(0.0)

    with pytest.raises(Draining):
        await house.opened()
    assert house.places == []


async def test_whoever_is_being_admitted_when_the_drain_begins_gives_the_place_back(make_house):
    door = Door()
    house = make_house([STOP], door=door)
    newcomer = asyncio.ensure_future(house.opened())
    await door.at.wait()
    await house.streams.drain(0.0)
    door.opens.set()

    with pytest.raises(Draining):
        await newcomer
    assert [place.released for place in house.places] == [1]


async def test_a_second_drain_joins_the_first(make_house):
    house = make_house([TextDelta("Hello")], None)
    stream = await house.opened()
    with stream.attach(Reader()):
        house.streams.start(stream)
        await house.provider.started.wait()

        await asyncio.wait_for(
            asyncio.gather(house.streams.drain(0.01), house.streams.drain(3600.0)), 5
        )

        assert names(wire(stream)).count("done") == 1


async def test_a_drain_that_is_given_up_goes_on(make_house):
    house = make_house([TextDelta("Hello")], None)
    stream = await house.opened()
    with stream.attach(Reader()):
        house.streams.start(stream)
        await house.provider.started.wait()

        impatient = asyncio.ensure_future(house.streams.drain(0.05))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.wait_for(house.streams.idle(), PATIENCE)

        assert stream.log.ended
        await house.streams.drain(0.0)


async def test_an_observer_that_fails_costs_the_others_nothing(make_house):
    house = make_house([TextDelta("Hello"), USAGE, STOP], observers=[_broken])
    stream = await house.opened()

    with stream.attach(Reader()):
        house.streams.start(stream)
        await asyncio.wait_for(house.streams.idle(), PATIENCE)
        await stream.task

    assert house.told == [stream]
    assert house.places[0].released == 1


async def test_finished_logs_make_room_for_others_oldest_first(make_house):
    policy = Policy(max_log_bytes=700)
    house = make_house([TextDelta("x" * 200), USAGE, STOP], policy=policy)
    streams = []
    for _ in range(3):
        stream = await house.opened(resumable=True)
        with stream.attach(Reader()):
            house.streams.start(stream)
            await asyncio.wait_for(house.streams.idle(), PATIENCE)
            await stream.task
        streams.append(stream)

    found = [await house.streams.find(stream.id, "alice") for stream in streams]

    assert found == [None, None, streams[2]]
    await house.streams.drain(0.0)


def _broken(stream) -> None:
    raise LookupError("broken observer")


async def test_a_stream_that_has_begun_keeps_nobody_waiting_who_is_to_begin(make_house):
    """Whoever reads through another process says so again and again."""
    house = make_house([TextDelta("Hello")], asyncio.Event())
    first, second = await house.opened(), await house.opened()
    with first.attach(Reader()), second.attach(Reader()):
        house.streams.start(first)
        async with asyncio.timeout(PATIENCE):
            await house.provider.started.wait()
        await asyncio.sleep(0.1)  # turns of the loop in which nothing begins

        for _ in range(100):
            house.streams.start(first)
        house.streams.start(second)

        assert second.task is not None
    await house.streams.drain(0)
