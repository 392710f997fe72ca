"""What a restart leaves of streams: the database has it."""

from __future__ import annotations

import pytest
from scripted_provider import ScriptedProvider
from whole_answer import WHOLE


@pytest.fixture(params=["sqlite", "postgres"])
def environment(request, environment):
    """Both databases: the archive's SQL is the same for each."""
    if request.param == "postgres":
        environment["DATABASE_URL"] = request.getfixturevalue("postgres_url")
    return environment


async def test_a_finished_answer_is_replayed_after_a_restart(start_node, held, go_on):
    before = await start_node(provider=held)
    go_on.set()
    async with before.client.ask(resumable=True) as answer:
        await answer.read_to_end()
    await before.stop()
    after = await start_node(provider=held)

    async with after.client.resume(answer.stream_id) as whole:
        await whole.read_to_end()
    async with after.client.resume(answer.stream_id, 4) as rest:
        await rest.read_to_end()
    async with after.client.resume(answer.stream_id, 6) as nothing:
        assert nothing.status == 204
    async with after.client.resume(answer.stream_id, 7) as beyond:
        assert beyond.status == 400

    assert whole.raw_events == WHOLE
    assert [event.id for event in rest.events] == [5, 6]
    assert (await after.client.stop(answer.stream_id)).status == 202
    assert (await after.user("stranger").stop(answer.stream_id)).status == 404
    async with after.user("stranger").resume(answer.stream_id) as foreign:
        assert foreign.status == 404
    assert len(held.asked) == 1


async def test_a_key_still_stands_for_its_answer_after_a_restart(start_node, held, go_on):
    before = await start_node(provider=held)
    go_on.set()
    async with before.client.ask(key="k") as answer:
        await answer.read_to_end()
    await before.stop()
    after = await start_node(provider=held)

    async with after.client.ask(key="k") as again:
        await again.read_to_end()
    async with after.client.ask(key="k", after=5) as rest:
        await rest.read_to_end()
    async with after.client.ask("other", key="k") as other:
        assert other.status == 409

    assert again.raw_events == WHOLE
    assert [event.id for event in rest.events] == [6]
    assert len(held.asked) == 1


async def test_an_answer_that_was_cut_by_a_drain_is_replayed_as_it_was_told(start_node, held):
    before = await start_node({"DRAIN_TIMEOUT_MS": "0"}, provider=held)
    async with before.client.ask(resumable=True) as answer:
        await answer.next_event()
    await before.stop()
    after = await start_node(provider=held)

    async with after.client.resume(answer.stream_id, 1) as rest:
        await rest.read_to_end()

    assert [event.name for event in rest.events] == ["token", "token", "usage", "done"]
    assert rest.events[-1].data == {"finish_reason": "error", "code": "SERVER_ERROR", "events": 5}


async def test_a_stored_answer_expires(start_node, held, go_on):
    before = await start_node({"STREAM_RETENTION_MS": "1"}, provider=held)
    go_on.set()
    async with before.client.ask(key="k") as answer:
        await answer.read_to_end()
    await before.stop()
    after = await start_node(provider=ScriptedProvider(None))

    async with after.client.resume(answer.stream_id) as rest:
        assert rest.status == 404
