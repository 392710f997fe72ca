"""Deleting a session, or all memory, erases stored answers too: rows, logs in Redis, claims."""

from __future__ import annotations

import asyncio

import pytest
from databases import Database
from redis.asyncio import Redis
from scripted_provider import says

SESSION = "session-20250819-143022-a1b2"
OTHER = "session-20250820-090000-zz99"
SECRET = b"Biscuit"


@pytest.fixture(params=["sqlite", "postgres"])
def environment(request, environment):
    """Both databases."""
    if request.param == "postgres":
        environment["DATABASE_URL"] = request.getfixturevalue("postgres_url")
    return environment


@pytest.fixture
def shared(environment, redis):
    """What several processes have in common."""
    return environment | {"REDIS_URL": redis.url}


async def answered(node, key, session=SESSION, client=None):
    """The id of a finished answer that has the secret in it."""
    fields = {"sessionId": session} if session else {}
    async with (client or node.client).ask("My dog?", key=key, **fields) as answer:
        await answer.read_to_end()
    assert SECRET in answer.raw_events
    await node.idle()
    return answer.stream_id


async def erase(node, path, client=None):
    async with (client or node.client).request("DELETE", f"/api/v1/{path}") as reply:
        return reply.status


async def status_of(node, stream_id, client=None):
    async with (client or node.client).resume(stream_id) as reply:
        return reply.status


async def rows_in(environment):
    """The ids of all stored streams, and whether the secret is in any of their columns."""
    async with Database(environment["DATABASE_URL"]) as database:
        rows = await database.fetch_all("SELECT * FROM streams")
    everything = b"".join(bytes(row["frames"] or b"") for row in rows)
    return {row["id"] for row in rows}, SECRET in everything


async def keys_in(redis):
    """The keys of all streams and claims in Redis, those of processes left out."""
    async with Redis(port=redis.port) as client:
        return {key async for key in client.scan_iter("chat:stream:*")} | {
            key async for key in client.scan_iter("chat:claim:*")
        }


async def until(happened):
    """Return when *happened* returns something true: nobody tells when another process has done it."""
    async with asyncio.timeout(30):
        while not await happened():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.02)


async def test_an_erased_session_leaves_no_stored_answer(start_node, environment):
    node = await start_node(provider=says("Your dog is Biscuit."))
    erased, kept = await answered(node, "k"), await answered(node, "l", OTHER)

    assert await erase(node, f"sessions/{SESSION}") == 204

    assert await rows_in(environment) == ({kept}, True)
    assert await status_of(node, erased) == 404
    assert await status_of(node, kept) == 200
    assert await erase(node, f"sessions/{SESSION}") == 404


async def test_erasing_memory_leaves_no_stored_answer_of_the_caller_and_all_of_others(
    start_node, environment
):
    node = await start_node(provider=says("Your dog is Biscuit."))
    mine = [await answered(node, "k"), await answered(node, "l", None)]
    stranger = node.user("somebody-else")
    theirs = await answered(node, "k", client=stranger)

    assert await erase(node, "memory") == 204

    assert await rows_in(environment) == ({theirs}, True)
    assert [await status_of(node, each) for each in mine] == [404, 404]
    assert await status_of(node, theirs, stranger) == 200


async def test_an_erased_answer_leaves_its_key_free(start_node):
    provider = says("Your dog is Biscuit.")
    node = await start_node(provider=provider)
    first = await answered(node, "k")
    await erase(node, f"sessions/{SESSION}")

    second = await answered(node, "k")

    assert first != second
    assert len(provider.asked) == 2


async def test_what_was_stored_before_a_restart_is_erased_after_it(start_node, environment):
    before = await start_node(provider=says("Your dog is Biscuit."))
    stream_id = await answered(before, "k")
    await before.stop()
    after = await start_node(provider=says("Your dog is Biscuit."))

    assert await erase(after, "memory") == 204

    assert await rows_in(environment) == (set(), False)
    assert await status_of(after, stream_id) == 404
    assert await answered(after, "k") != stream_id


async def test_an_answer_is_erased_wherever_it_was_made(start_node, shared, redis):
    """The process that made it has it in memory, and would fill a Redis that forgot it again."""
    maker = await start_node(shared, provider=says("Your dog is Biscuit."))
    other = await start_node(shared, provider=says("Your dog is Biscuit."))
    stream_id = await answered(maker, "k")

    async def stored():
        return (await rows_in(shared))[0] and len(await keys_in(redis)) == 3

    await until(stored)

    assert await erase(other, f"sessions/{SESSION}") == 204

    async def forgotten():
        return not maker.services.streams.held_bytes and not await keys_in(redis)

    assert await status_of(other, stream_id) == 404
    await until(forgotten)
    assert await status_of(maker, stream_id) == 404
    redis.kill()
    redis.start()
    await asyncio.sleep(2.5)  # longer than two leases are apart: all is sent again by then
    assert await keys_in(redis) == set()
    assert await rows_in(shared) == (set(), False)


async def test_an_answer_that_nobody_outside_has_seen_yet_is_erased_with_its_copy(
    start_node, shared, redis
):
    """It is erased at once after its end, while its last events are on their way to Redis."""
    node = await start_node(shared, provider=says("Your dog is Biscuit."))
    for number in range(20):
        await answered(node, f"k{number}")
        assert await erase(node, "memory") == 204

    assert node.services.streams.held_bytes == 0
    assert await keys_in(redis) == set()
    assert await rows_in(shared) == (set(), False)


async def test_an_answer_that_runs_is_not_torn_from_its_reader(
    start_node, shared, held, go_on, redis
):
    maker, other = await start_node(shared, provider=held), await start_node(shared, provider=held)
    async with maker.client.ask(key="k", sessionId=SESSION) as answer:
        await answer.next_event()
        await erase(other, "memory")
        await erase(maker, "memory")
        async with other.client.resume(answer.stream_id) as elsewhere:
            go_on.set()
            await elsewhere.read_to_end()
        await answer.read_to_end()

    assert answer.raw_events == elsewhere.raw_events
    assert answer.events[-1].data == {"finish_reason": "stop", "events": 6}


async def test_without_redis_an_erasure_is_refused_and_can_be_repeated(start_node, shared, redis):
    """Half of it would be forgotten if it looked done: what Redis has is found by the rows."""
    node = await start_node(shared, provider=says("Your dog is Biscuit."))
    stream_id = await answered(node, "k")
    await asyncio.to_thread(redis.await_key, f"chat:stream:{stream_id}:log")
    redis.freeze()
    refused = await erase(node, "memory")
    redis.thaw()

    async def accepted():
        return await erase(node, "memory") == 204

    await until(accepted)

    assert refused == 503
    assert await keys_in(redis) == set()
    assert await rows_in(shared) == (set(), False)
