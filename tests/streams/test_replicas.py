"""Several processes with one Redis: any of them resumes, stops and deduplicates."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest
from redis_server import RedisServer
from scripted_provider import STOP, USAGE, ScriptedProvider
from whole_answer import WHOLE

from services.events import TextDelta


@pytest.fixture
def environment(environment, redis: RedisServer):
    """Every service of these tests shares its streams."""
    return environment | {"REDIS_URL": redis.url}


async def test_every_event_boundary_reads_on_in_another_process(start_node, held, go_on):
    one, other = await start_node(provider=held), await start_node(provider=held)
    frames = [frame + b"\n\n" for frame in WHOLE.split(b"\n\n")[:-1]]
    async with one.client.ask(resumable=True) as first:
        await first.next_event()
        live = [other.client.resume(first.stream_id, after) for after in range(3)]
        answers = [await each.__aenter__() for each in live]
        go_on.set()
        for after, answer in enumerate(answers):
            await answer.read_to_end()
            assert answer.raw_events == b"".join(frames[after:])
        for each in live:
            await each.__aexit__(None, None, None)
        await first.read_to_end()

    for after in range(6):
        async with other.client.resume(first.stream_id, after) as finished:
            await finished.read_to_end()
        assert finished.raw_events == b"".join(frames[after:])
    async with other.client.resume(first.stream_id, 6) as at_the_end:
        assert at_the_end.status == 204
    async with other.client.resume(first.stream_id, 7) as beyond:
        assert beyond.status == 400
    assert first.raw_events == WHOLE
    assert len(held.asked) == 1


async def test_every_cut_point_reads_on_in_another_process(start_node, held, go_on):
    """Cut in one process after any byte, resumed at once in the other: nothing lost or doubled."""
    one, other = await start_node(provider=held), await start_node(provider=held)
    go_on.set()
    async with one.client.ask(resumable=True) as answer:
        await answer.read_to_end()
    size = len(answer.body)

    for cut in range(0, size, 3):
        async with one.client.ask(resumable=True) as first:
            await first.read_bytes(cut)
        async with other.client.resume(first.stream_id, first.last_id) as rest:
            await rest.read_to_end()

        assert first.raw_events + rest.raw_events == WHOLE, f"cut after {cut} bytes"


async def test_a_stranger_finds_nothing_in_another_process(start_node, held, go_on):
    one, other = await start_node(provider=held), await start_node(provider=held)
    go_on.set()
    async with one.client.ask(resumable=True) as answer:
        await answer.read_to_end()
    stranger = other.user("stranger")

    async with stranger.resume(answer.stream_id) as foreign:
        assert foreign.status == 404
    assert (await stranger.stop(answer.stream_id)).status == 404


async def test_racing_posts_to_two_processes_make_one_provider_call(start_node, held, go_on):
    nodes = [await start_node(provider=held), await start_node(provider=held)]

    async def ask(number: int) -> bytes:
        async with nodes[number % 2].client.ask(key="k") as answer:
            await answer.next_event()
            go_on.set()
            await answer.read_to_end()
            return answer.raw_events

    replies = await asyncio.gather(*(ask(number) for number in range(10)))

    assert set(replies) == {WHOLE}
    assert len(held.asked) == 1


async def test_a_key_of_another_process_is_known_with_its_body_and_its_place(
    start_node, held, go_on
):
    one, other = await start_node(provider=held), await start_node(provider=held)
    go_on.set()
    async with one.client.ask(key="k") as answer:
        await answer.read_to_end()

    async with other.client.ask("another body", key="k") as conflict:
        assert conflict.status == 409
    async with other.client.ask(key="k", after=5) as rest:
        await rest.read_to_end()
    async with other.client.ask(key="k", after=6) as at_the_end:
        assert at_the_end.status == 204

    assert [event.id for event in rest.events] == [6]
    assert len(held.asked) == 1


async def test_a_stop_reaches_the_process_that_answers(start_node, held):
    one, other = await start_node(provider=held), await start_node(provider=held)

    async with one.client.ask(resumable=True) as answer:
        await answer.next_event()
        replies = [await other.client.stop(answer.stream_id) for _ in range(2)]
        await answer.read_to_end()
    late = await other.client.stop(answer.stream_id)

    assert [reply.status for reply in (*replies, late)] == [202, 202, 202]
    assert answer.events[-1].data == {"finish_reason": "aborted", "events": 4}
    assert held.running == 0


async def test_a_reader_in_another_process_keeps_the_answer_going(start_node, held, go_on):
    """The grace period is over long before the end, but somebody is reading.

    A busy machine may be too late for a short one; then it is given more.
    """
    other = await start_node(provider=held)
    for grace in (1.5, 6.0, 24.0):
        one = await start_node({"STREAM_RESUME_GRACE_MS": f"{grace * 1000:.0f}"}, provider=held)
        async with one.client.ask(resumable=True) as first:
            await first.next_event()

        left = monotonic()
        async with other.client.resume(first.stream_id, 1) as rest:
            await rest.next_event()
            if monotonic() - left > grace / 3:
                continue
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2 * grace):
                    await one.services.streams.idle()
            go_on.set()
            await rest.read_to_end()
        break

    assert rest.events[-1].data == {"finish_reason": "stop", "events": 6}


async def test_a_restart_of_an_empty_redis_goes_unnoticed(start_node, held, go_on, redis):
    """Local readers never wait for it, and what it forgot is sent again."""
    one, other = await start_node(provider=held), await start_node(provider=held)
    async with one.client.ask(resumable=True) as local:
        await local.next_event()
        async with other.client.resume(local.stream_id) as distant:
            await distant.next_event()

            redis.kill()
            go_on.set()
            await local.read_to_end()
            redis.start()
            await distant.read_to_end()

    assert local.raw_events == WHOLE
    assert distant.raw_events == WHOLE


async def test_a_finished_stream_is_shared_again_after_redis_forgot_it(
    start_node, held, go_on, redis
):
    one, other = await start_node(provider=held), await start_node(provider=held)
    go_on.set()
    async with one.client.ask(key="k") as answer:
        await answer.read_to_end()
    redis.kill()
    redis.start()
    await asyncio.to_thread(redis.await_key, f"chat:stream:{answer.stream_id}:log")

    async with other.client.ask(key="k", after=5) as rest:
        await rest.read_to_end()

    assert [event.id for event in rest.events] == [6]
    assert len(held.asked) == 1


async def test_without_redis_answers_go_on_and_resumes_elsewhere_are_told_to_wait(
    start_node, held, go_on, redis
):
    """A claim is then only known to its own process: better twice in the worst case than never."""
    one, other = await start_node(provider=held), await start_node(provider=ScriptedProvider(None))
    redis.kill()
    go_on.set()

    async with one.client.ask(key="k") as answer:
        await answer.read_to_end()
    async with one.client.ask(key="k", after=5) as again:
        await again.read_to_end()
    async with other.client.resume("str_unknown", 1) as unknown:
        assert unknown.status == 503
        assert unknown.headers["retry-after"] == "1"
        assert unknown.json()["error"]["code"] == "STREAMS_UNAVAILABLE"

    assert answer.raw_events == WHOLE
    assert [event.id for event in again.events] == [6]


async def test_a_stopping_process_shares_the_end_of_its_streams(start_node, held):
    """A reader elsewhere gets the end that local readers got, not a lost stream."""
    one = await start_node({"DRAIN_TIMEOUT_MS": "0"}, provider=held)
    other = await start_node(provider=held)
    async with one.client.ask(resumable=True) as local:
        await local.next_event()
        async with other.client.resume(local.stream_id) as distant:
            await distant.next_event()
            await one.stop()
            await local.read_to_end()
            await distant.read_to_end()

    assert local.raw_events == distant.raw_events
    assert local.events[-1].data["code"] == "SERVER_ERROR"


async def test_an_answer_that_is_forgotten_at_its_end_ends_in_other_processes_too(
    start_node, go_on
):
    """Where logs are full it is forgotten at once, with its last events still to be copied."""
    provider = ScriptedProvider([TextDelta("x" * 900)], go_on, [USAGE, STOP])
    maker = await start_node({"STREAM_LOG_BYTES": "1000"}, provider=provider)
    other = await start_node(provider=provider)
    async with maker.client.ask(key="k") as answer:
        await answer.next_event()
        async with other.client.resume(answer.stream_id) as elsewhere:
            await elsewhere.next_event()
            go_on.set()
            await elsewhere.read_to_end()
        await answer.read_to_end()

    assert elsewhere.raw_events == answer.raw_events
    assert maker.services.streams.held_bytes == 0
