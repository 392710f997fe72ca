"""Redis goes away in mid-stream: local readers notice nothing, others read on or are told, in time."""

from __future__ import annotations

import asyncio
import time

import pytest
from databases import Database
from patience import PATIENCE
from redis_server import RedisServer
from whole_answer import WHOLE

from services.streaming.store_redis import LEASE

TOLD_WITHIN = 10.0  # seconds, the contract's
BEYOND_LEASES = LEASE + 0.5  # by then the last one has run out
LOST = b'event: done\ndata: {"finish_reason":"error","code":"STREAM_LOST","events":3}\nid: 03\n\n'
TWO_WORDS = WHOLE[: WHOLE.index(b'event: token\ndata: {"text":"three "}')]


async def archived(environment, count):
    """Return when so many streams are in the database, where other processes find them."""
    async with asyncio.timeout(PATIENCE), Database(environment["DATABASE_URL"]) as database:
        while await database.fetch_val("SELECT count(*) FROM streams") < count:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


class Outage:
    """One way for a Redis to be away, and to come back."""

    def __init__(self, redis: RedisServer, how: str) -> None:
        self.begin, self.end = {
            "a crash": (redis.kill, redis.start),
            "a hang": (redis.freeze, redis.thaw),
        }[how.partition(" that")[0]]


@pytest.fixture(params=["a crash that empties it"])
def how(request) -> str:
    """How Redis goes away; a test may name more ways."""
    return request.param


@pytest.fixture
def redis(how, tmp_path):
    """A Redis that has, or has not, what it had, once it is back."""
    server = RedisServer(tmp_path, keeps="keeps" in how)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def outage(redis, how):
    """The outage that is to come."""
    return Outage(redis, how)


@pytest.fixture
def environment(environment, redis):
    """Every service of these tests shares its streams."""
    return environment | {"REDIS_URL": redis.url}


@pytest.mark.parametrize(
    "how", ["a crash that empties it", "a crash that keeps all", "a hang"], indirect=True
)
async def test_an_outage_longer_than_the_leases_is_read_through_everywhere(
    start_node, held, go_on, outage
):
    """The answer goes on and ends meanwhile; its local reader has it long before Redis is back."""
    one, other = await start_node(provider=held), await start_node(provider=held)
    async with one.client.ask(key="k") as local:
        await local.next_event()
        async with other.client.resume(local.stream_id) as distant:
            await distant.next_event()

            outage.begin()
            began = time.monotonic()
            go_on.set()
            await local.read_to_end()
            await asyncio.sleep(began + BEYOND_LEASES - time.monotonic())
            outage.end()
            await distant.read_to_end()

    assert local.raw_events == distant.raw_events == WHOLE
    assert len(held.asked) == 1


@pytest.mark.parametrize("how", ["a crash that empties it", "a hang"], indirect=True)
async def test_readers_elsewhere_are_told_once_and_in_time_when_redis_stays_away(
    start_node, held, go_on, outage
):
    """And who comes back without that end, when Redis is back, reads on: the answer never stopped."""
    one, other = await start_node(provider=held), await start_node(provider=held)
    async with one.client.ask(key="k") as local:
        await local.next_event()
        async with other.client.resume(local.stream_id) as distant:
            await distant.next_event()
            await distant.next_event()

            outage.begin()
            began = time.monotonic()
            await distant.read_to_end()
            took = time.monotonic() - began
        outage.end()

        async with other.client.resume(local.stream_id, distant.last_event_id) as at_the_end:
            ended = at_the_end.status
        async with other.client.resume(local.stream_id, 2) as again:
            go_on.set()
            await again.read_to_end()
        await local.read_to_end()

    assert took < TOLD_WITHIN
    assert distant.raw_events == TWO_WORDS + LOST
    assert ended == 204
    assert TWO_WORDS + again.raw_events == local.raw_events == WHOLE
    assert len(held.asked) == 1


async def test_a_stream_of_which_redis_knows_nothing_yet_is_neither_lost_nor_out_of_reach(
    start_node, held, go_on, redis, environment
):
    """It was told as lost until its process had noticed that Redis is a new one, and a stop said
    that it would stop, and did not."""  # fmt: skip
    one, other = await start_node(provider=held), await start_node(provider=held)
    async with one.client.ask(key="k") as local:
        await local.next_event()
        async with one.client.ask("second", key="l") as second:
            await second.next_event()
            await archived(environment, 2)
            await asyncio.to_thread(redis.restart)

            stop = await other.client.stop(second.stream_id)
            assert stop.status == 202
            await second.read_to_end()
        await asyncio.to_thread(redis.restart)
        async with other.client.resume(local.stream_id, 1) as distant:
            go_on.set()
            await distant.read_to_end()
        await local.read_to_end()

    assert second.events[-1].data["finish_reason"] == "aborted"
    assert local.events[0].raw + distant.raw_events == local.raw_events == WHOLE


async def test_a_process_that_ends_while_redis_is_away_leaves_its_readers_an_end_too(
    start_node, held, go_on, redis
):
    """Nobody can tell it from one that is only out of reach: the readers elsewhere are told."""
    one, other = await start_node(provider=held), await start_node(provider=held)
    async with one.client.ask(key="k") as local:
        await local.next_event()
        async with other.client.resume(local.stream_id) as distant:
            await distant.next_event()
            await distant.next_event()
            redis.kill()
            began = time.monotonic()
            await one.stop()
            await distant.read_to_end()
            took = time.monotonic() - began

    assert took < TOLD_WITHIN
    assert distant.raw_events == TWO_WORDS + LOST
