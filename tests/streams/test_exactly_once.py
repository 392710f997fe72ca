"""One idempotency key, one answer, however often it is asked for."""

from __future__ import annotations

import asyncio

from scripted_provider import STOP, USAGE, ScriptedProvider
from whole_answer import WHOLE

from services.events import TextDelta
from services.streaming.store import Claim
from services.turn import Turn


async def test_racing_posts_with_one_key_make_one_provider_call(start_node, held, go_on):
    node = await start_node(provider=held)

    async def ask() -> tuple[str, bytes]:
        async with node.client.ask(key="k") as answer:
            await answer.next_event()
            go_on.set()
            await answer.read_to_end()
            return answer.stream_id, answer.raw_events

    replies = await asyncio.gather(*(ask() for _ in range(20)))

    assert {raw for _, raw in replies} == {WHOLE}
    assert len({stream_id for stream_id, _ in replies}) == 1
    assert len(held.asked) == 1


async def test_the_same_key_with_another_body_is_409(start_node, held):
    node = await start_node(provider=held)
    async with (
        node.client.ask("hi", key="k"),
        node.client.ask("something else", key="k") as other,
    ):
        assert other.status == 409
        assert other.json()["error"]["code"] == "CONFLICT"
    assert len(held.asked) == 1


async def test_another_users_same_key_is_another_stream(start_node, held, go_on):
    node = await start_node(provider=held)
    go_on.set()

    async with node.client.ask(key="k") as mine, node.user("else").ask(key="k") as theirs:
        await mine.read_to_end()
        await theirs.read_to_end()

    assert mine.stream_id != theirs.stream_id
    assert len(held.asked) == 2


async def test_a_repeated_post_reads_on_after_last_event_id_at_every_event(start_node, held, go_on):
    """react-native-sse and fetch-event-source re-POST by themselves when a connection ends."""
    node = await start_node(provider=held)
    go_on.set()
    frames = [frame + b"\n\n" for frame in WHOLE.split(b"\n\n")[:-1]]

    for after in range(6):
        async with node.client.ask(key="k", after=after or None) as answer:
            await answer.read_to_end()
        assert answer.raw_events == b"".join(frames[after:])
        assert answer.retry is None
    async with node.client.ask(key="k", after=6) as at_the_end:
        assert at_the_end.status == 204
    assert len(held.asked) == 1


async def test_a_repeated_post_joins_a_running_stream(start_node, held, go_on):
    node = await start_node(provider=held)
    async with node.client.ask(key="k") as first:
        await first.next_event()

    async with node.client.ask(key="k", after=1) as second:
        assert (await second.next_event()).id == 2
        go_on.set()
        await second.read_to_end()

    assert second.stream_id == first.stream_id
    assert first.events[0].raw + second.raw_events == WHOLE
    assert len(held.asked) == 1


async def test_an_unknown_key_with_last_event_id_is_told_that_the_stream_is_lost(start_node, held):
    """Its answer was made by a process that is gone: it must neither hang nor be paid twice."""
    node = await start_node(provider=held)

    async with node.client.ask(key="k", after=7) as answer:
        await answer.read_to_end()
    async with node.client.ask(key="k", after=answer.last_event_id) as again:
        assert again.status == 204
    async with node.client.ask(key="k", after=8) as without_the_end:
        await without_the_end.read_to_end()

    assert answer.raw_events == (
        b'event: done\ndata: {"finish_reason":"error","code":"STREAM_LOST","events":8}\nid: 08\n\n'
    )
    assert [event.id for event in without_the_end.events] == [9]
    assert held.asked == []
    assert len(node.services.streams) == 0


async def test_a_last_event_id_beyond_the_end_is_400_and_leaves_nothing(start_node, held, go_on):
    node = await start_node(provider=held)
    go_on.set()
    async with node.client.ask(key="k") as answer:
        await answer.read_to_end()

    async with node.client.ask(key="k", after=7) as beyond:
        assert beyond.status == 400
    assert len(node.services.streams) == 0


async def test_without_a_key_last_event_id_means_nothing_to_a_post(start_node, held, go_on):
    node = await start_node(provider=held)
    go_on.set()

    async with node.client.ask(resumable=True, after=3) as answer:
        await answer.read_to_end()

    assert answer.raw_events == WHOLE


async def test_a_stream_whose_first_reader_never_came_ends_after_the_grace_period(start_node):
    """The process, not the reader, answers for a place that was taken."""
    node = await start_node({"STREAM_RESUME_GRACE_MS": "20"}, provider=ScriptedProvider(None))
    streams = node.services.streams
    turn = Turn("req", "test-user-id", "hi", resumable=True)
    released = []

    async def admit(turn):
        return released.append

    stream = await streams.open(turn, admit, Claim("test-user-id", "k", b"digest"))
    await node.idle()

    assert stream.log.ended
    assert released == [stream.report]
    assert len(streams) == 0


async def test_the_report_counts_who_came_back_before_the_end(start_node, held, go_on):
    node = await start_node(provider=held)
    async with node.client.ask(key="k") as first:
        await first.next_event()
    stream = await node.services.streams.find(first.stream_id, "test-user-id")
    async with node.client.ask(key="k", after=1) as second:
        await second.next_event()
    async with node.client.resume(first.stream_id, 1) as third:
        go_on.set()
        await third.read_to_end()
    async with node.client.resume(first.stream_id) as late:
        await late.read_to_end()

    fields = stream.report.fields()
    assert fields["idempotent_replays"] == 1
    assert fields["resumed"] == 2  # the test's own look counts
    assert fields["disconnected"] is True


async def test_a_refused_stream_leaves_its_key_free(start_node):
    provider = ScriptedProvider([TextDelta("x")], [USAGE, STOP])
    node = await start_node(provider=provider)

    async with node.client.ask("", key="k") as refused:
        assert refused.status == 400
    async with node.client.ask("hi", key="k") as answer:
        await answer.read_to_end()

    assert answer.events[-1].data["finish_reason"] == "stop"
