"""Reading on after a cut, in one process."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest
from patience import PATIENCE
from scripted_provider import STOP, USAGE, ScriptedProvider
from whole_answer import WHOLE

from services.events import TextDelta


async def test_an_uncut_resumable_stream_numbers_every_event_and_counts_them_in_done(
    start_node, held, go_on
):
    node = await start_node(provider=held)
    go_on.set()

    async with node.client.ask(resumable=True) as answer:
        await answer.read_to_end()

    assert answer.raw_events == WHOLE
    assert answer.stream_id.startswith("str_")
    assert answer.retry is None


async def test_every_cut_point_reads_on_without_loss_or_repetition(start_node, held, go_on):
    """What was read before the cut and what the resume returns are the uncut stream, byte for byte."""
    node = await start_node(provider=held)
    go_on.set()
    async with node.client.ask(resumable=True) as answer:
        await answer.read_to_end()
    size = len(answer.body)

    for cut in range(size):
        async with node.client.ask(resumable=True) as first:
            await first.read_bytes(cut)
        async with node.client.resume(first.stream_id, first.last_id) as rest:
            await rest.read_to_end()

        assert first.raw_events + rest.raw_events == WHOLE, f"cut after {cut} bytes"


async def test_a_reader_that_was_cut_follows_live(start_node, held, go_on):
    node = await start_node(provider=held)
    async with node.client.ask(resumable=True) as first:
        await first.next_event()

    async with node.client.resume(first.stream_id, 1) as rest:
        assert (await rest.next_event()).id == 2
        go_on.set()
        await rest.read_to_end()

    assert rest.raw_events == WHOLE[WHOLE.index(b'event: token\ndata: {"text":"two "}') :]
    assert rest.retry == 3000
    assert len(held.asked) == 1


async def test_several_readers_get_the_same_stream_at_once(start_node, held, go_on):
    node = await start_node(provider=held)
    async with (
        node.client.ask(resumable=True) as first,
        node.client.resume(first.stream_id) as second,
        node.client.resume(first.stream_id, 1) as third,
    ):
        go_on.set()
        for answer in (first, second, third):
            await answer.read_to_end()

    assert first.raw_events == WHOLE
    assert second.raw_events == WHOLE
    assert third.raw_events == WHOLE[WHOLE.index(b"event: token", 1) :]


async def test_after_may_stand_in_the_query_and_the_header_wins(start_node, held, go_on):
    node = await start_node(provider=held)
    go_on.set()
    async with node.client.ask(resumable=True) as answer:
        await answer.read_to_end()
    path = f"/api/v1/chat/{answer.stream_id}?after=5"

    async with node.client.request("GET", path) as by_query:
        await by_query.read_to_end()
    async with node.client.request("GET", path, headers={"last-event-id": "4"}) as by_header:
        await by_header.read_to_end()

    assert [event.id for event in by_query.events] == [6]
    assert [event.id for event in by_header.events] == [5, 6]


async def test_a_reader_that_has_done_gets_204(start_node, held, go_on):
    """It is what stops an EventSource from coming back for ever."""
    node = await start_node(provider=held)
    go_on.set()
    async with node.client.ask(resumable=True) as answer:
        await answer.read_to_end()

    async with node.client.resume(answer.stream_id, 6) as rest:
        assert rest.status == 204
        assert rest.body == b""


@pytest.mark.parametrize("value", ["7", "x", "-1", "1.0", "٣", "", "9999999999"])
async def test_a_last_event_id_that_names_no_event_is_400(start_node, held, go_on, value: str):
    node = await start_node(provider=held)
    go_on.set()
    async with node.client.ask(resumable=True) as answer:
        await answer.read_to_end()

    path = f"/api/v1/chat/{answer.stream_id}"
    headers = {"last-event-id": value.encode().decode("latin-1")}
    async with node.client.request("GET", path, headers=headers) as rest:
        assert rest.status == 400
        assert rest.json()["error"]["code"] == "VALIDATION_ERROR"


async def test_a_stream_of_somebody_else_and_an_unknown_one_are_the_same_404(
    start_node, held, go_on
):
    node = await start_node(provider=held)
    go_on.set()
    stranger = node.user("stranger")
    async with node.client.ask(resumable=True) as answer:
        await answer.read_to_end()

    async with (
        stranger.resume(answer.stream_id) as foreign,
        stranger.resume("str_nobody") as unknown,
    ):
        assert foreign.status == unknown.status == 404
        assert foreign.json()["error"]["code"] == unknown.json()["error"]["code"] == "NOT_FOUND"
    assert (await stranger.stop(answer.stream_id)).status == 404


async def test_a_plain_stream_cannot_be_resumed(start_node, held, go_on):
    node = await start_node(provider=held)
    go_on.set()

    async with node.client.ask() as answer:
        await answer.read_to_end()

    assert "x-stream-id" not in answer.headers
    assert all(event.id is None for event in answer.events)
    assert "events" not in answer.events[-1].data


async def test_without_a_reader_the_answer_ends_after_the_grace_period(start_node, held):
    node = await start_node({"STREAM_RESUME_GRACE_MS": "50"}, provider=held)

    async with node.client.ask(resumable=True) as first:
        await first.next_event()
    await node.idle()

    async with node.client.resume(first.stream_id) as rest:
        events = await rest.read_to_end()
    assert events[-1].data == {"finish_reason": "aborted", "events": 4}
    assert events[-2].data["estimated"] is True
    assert held.running == 0


async def test_a_reader_that_returns_in_time_ends_the_grace_period(start_node, held, go_on):
    """A busy machine may be too late for a short one; then it is given more."""
    for grace in (0.3, 3.0, 30.0):
        node = await start_node({"STREAM_RESUME_GRACE_MS": f"{grace * 1000:.0f}"}, provider=held)
        async with node.client.ask(resumable=True) as first:
            await first.next_event()

        left = monotonic()
        async with node.client.resume(first.stream_id, 1) as rest:
            await rest.next_event()
            if monotonic() - left > grace:
                continue
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.5 * grace):
                    await node.services.streams.idle()
            go_on.set()
            await rest.read_to_end()
        break

    assert rest.events[-1].data["finish_reason"] == "stop"


async def test_stopping_ends_the_stream_with_usage_and_is_idempotent(start_node, held):
    node = await start_node(provider=held)

    async with node.client.ask(resumable=True) as answer:
        await answer.next_event()
        replies = [await node.client.stop(answer.stream_id) for _ in range(3)]
        await answer.read_to_end()
    late = await node.client.stop(answer.stream_id)

    for reply in (*replies, late):
        assert reply.status == 202
        assert reply.json() == {"stream_id": answer.stream_id, "status": "stopping"}
    assert [event.name for event in answer.events] == ["token", "token", "usage", "done"]
    assert answer.events[-1].data == {"finish_reason": "aborted", "events": 4}


async def test_a_finished_stream_is_forgotten_after_its_retention(start_node, held, go_on):
    node = await start_node({"STREAM_RETENTION_MS": "100"}, provider=held)
    go_on.set()
    async with node.client.ask(resumable=True) as answer:
        await answer.read_to_end()

    async with asyncio.timeout(PATIENCE):
        while True:
            async with node.client.resume(answer.stream_id) as rest:
                if rest.status == 404:
                    break
                await rest.read_to_end()

    assert rest.json()["error"]["code"] == "NOT_FOUND"


async def test_a_full_log_forgets_the_oldest_finished_streams_and_finds_them_in_the_archive(
    start_node,
):
    """Memory is bounded; what was evicted is still replayed, from the database."""
    provider = ScriptedProvider([TextDelta("x" * 900)], [USAGE, STOP])
    node = await start_node({"STREAM_LOG_BYTES": "4000"}, provider=provider)
    ids = []
    for _ in range(10):
        async with node.client.ask(resumable=True) as answer:
            await answer.read_to_end()
        ids.append(answer.stream_id)

    assert node.services.streams.held_bytes <= 4000

    for stream_id in ids:
        async with node.client.resume(stream_id) as rest:
            await rest.read_to_end()
        assert rest.raw_events == answer.raw_events


async def test_an_evicted_answer_is_still_not_paid_twice(start_node):
    provider = ScriptedProvider([TextDelta("x" * 900)], [USAGE, STOP])
    node = await start_node({"STREAM_LOG_BYTES": "1500"}, provider=provider)
    for key in ("one", "two", "three"):
        async with node.client.ask(key=key) as answer:
            await answer.read_to_end()

    async with node.client.ask(key="one") as again:
        await again.read_to_end()

    assert again.raw_events == answer.raw_events
    assert len(provider.asked) == 3


async def test_an_answer_that_outgrows_its_log_ends_with_an_error(start_node):
    provider = ScriptedProvider(*[[TextDelta("x" * 100)] for _ in range(100)], [USAGE, STOP])
    node = await start_node({"STREAM_MAX_BYTES": "1000"}, provider=provider)

    async with node.client.ask(resumable=True) as answer:
        await answer.read_to_end()

    assert answer.events[-1].data["finish_reason"] == "error"
    assert answer.events[-1].data["code"] == "SERVER_ERROR"
    assert len(answer.raw_events) < 2500
    assert provider.running == 0


async def test_plain_streams_hold_no_room_after_they_were_read(start_node):
    words = [[TextDelta(f"word {n} ")] for n in range(2000)]
    node = await start_node(provider=ScriptedProvider(*words, [USAGE, STOP]))

    async with node.client.ask() as answer:
        await answer.read_to_end()
    await node.idle()

    assert len(answer.events) == 2002
    assert node.services.streams.held_bytes == 0
