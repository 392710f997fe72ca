from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from endings import PROMPT, answering, finished
from frames import DONE_ABORTED, DONE_ERROR, HELLO, SENTENCE_AFTER_WORDS, USAGE_FRAME
from patience import PATIENCE
from scripted_provider import STOP, USAGE

from services.errors import ProviderRateLimited, ProviderTimeout, ProviderUnavailable
from services.events import Asked, Finish, TextDelta
from services.streaming.log import Room
from tests.core.conftest import names, wire


class Listener:
    """A reader that only counts, and tells when there is anything."""

    def __init__(self) -> None:
        self.woken = 0
        self.heard = asyncio.Event()

    def wake(self) -> None:
        self.woken += 1
        self.heard.set()


async def first_word_of(stream, answer):
    """Start *stream* and wait for its first word."""
    listener = Listener()
    stream.log.attach(listener)
    stream.start(answer)
    await asyncio.wait_for(listener.heard.wait(), PATIENCE)
    stream.log.detach(listener)


async def test_an_answer_is_its_tokens_then_its_usage_then_done(make_stream, ended):
    stream = make_stream()

    await finished(stream, answering([TextDelta("Hello")], [USAGE, STOP]))

    assert wire(stream) == HELLO + USAGE_FRAME + b'event: done\ndata: {"finish_reason":"stop"}\n\n'
    assert ended == [stream]
    assert stream.text == "Hello"


async def test_a_failure_before_the_first_word_is_one_sentence_and_done(make_stream):
    stream = make_stream()
    failure = ProviderTimeout("openai", "slow", phase="first_token")

    await finished(stream, answering(failure))

    assert wire(stream) == (
        b'event: token\ndata: {"text":"Request timed out. Please try again with a shorter message."}\n\n'
        b'event: done\ndata: {"finish_reason":"error","code":"OPENAI_TIMEOUT"}\n\n'
    )


async def test_a_failure_after_words_is_a_paragraph_then_an_estimated_usage(make_stream):
    stream = make_stream()
    failure = ProviderRateLimited("openai", "busy", phase="stream", status=429)

    await finished(stream, answering([Asked(PROMPT)], [TextDelta("Hello")], failure))

    assert wire(stream) == (
        HELLO + b'event: token\ndata: {"text":"\\n\\nOverloaded, please try again soon."}\n\n'
        b"event: usage\n"
        b'data: {"tokens_in":19,"tokens_out":2,"cost_usd":0.00000405,'
        b'"model":"gpt-4o-mini","estimated":true}\n\n'
        b'event: done\ndata: {"finish_reason":"error","code":"RATE_LIMIT"}\n\n'
    )
    assert stream.text == "Hello"  # the sentence is ours, not the model's


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(([TextDelta("Hello")],), id="ends without Finish"),
        pytest.param(([TextDelta("Hello")], RuntimeError("bug")), id="raises what is not its own"),
        pytest.param(([TextDelta("Hello")], [None]), id="yields what is no event"),
        pytest.param(
            ([TextDelta("Hello")], ProviderUnavailable("openai", "gone", phase="stream")),
            id="breaks",
        ),
    ],
)
async def test_a_broken_answer_never_looks_complete(make_stream, steps):
    stream = make_stream()

    await finished(stream, answering(*steps))

    assert names(wire(stream)) == ["token", "token", "usage", "done"]
    assert SENTENCE_AFTER_WORDS in wire(stream)
    assert wire(stream).endswith(DONE_ERROR)


async def test_what_comes_after_the_finish_is_read_and_not_told(make_stream):
    stream = make_stream()
    late = ([TextDelta("late")], [Finish("length")], RuntimeError("too late to matter"))

    await finished(stream, answering([TextDelta("Hello"), USAGE, STOP, TextDelta("late")], *late))

    assert names(wire(stream)) == ["token", "usage", "done"]
    assert wire(stream).endswith(b'event: done\ndata: {"finish_reason":"stop"}\n\n')


async def test_empty_batches_say_nothing_and_wake_nobody(make_stream):
    stream, listener = make_stream(), Listener()

    with stream.attach(listener):
        await finished(stream, answering([], [], [TextDelta("Hello")], [], [USAGE, STOP]))

    assert names(wire(stream)) == ["token", "usage", "done"]
    assert listener.woken == 2


async def test_an_answer_that_is_too_long_ends_as_an_error(make_stream):
    stream = make_stream(max_bytes=100_000)

    await finished(stream, answering([TextDelta("x" * 100_000)], [TextDelta("more")], [STOP]))

    assert names(wire(stream)) == ["token", "token", "usage", "done"]
    assert wire(stream).endswith(DONE_ERROR)


async def test_a_stop_ends_the_log_at_once_and_closes_the_provider(make_stream, ended):
    stream = make_stream()
    await first_word_of(stream, answering([TextDelta("Hello")], None))

    stream.stop("stopped")
    told = wire(stream)
    stream.stop("drained")

    assert told == wire(stream)
    assert names(told) == ["token", "usage", "done"]
    assert told.endswith(DONE_ABORTED)
    assert ended == [stream]
    with suppress(asyncio.CancelledError):
        await stream.task


async def test_a_stop_before_the_start_still_ends_with_usage_and_done(make_stream, ended):
    stream = make_stream()

    stream.stop("stopped")
    stream.start(answering([TextDelta("Hello")], [STOP]))

    assert names(wire(stream)) == ["usage", "done"]
    assert wire(stream).endswith(DONE_ABORTED)
    assert stream.task is None
    assert ended == [stream]


async def test_a_stop_in_the_same_tick_as_the_start_still_ends(make_stream, ended):
    """A task that is cancelled before its first step never enters its `try`."""
    stream = make_stream()

    stream.start(answering([TextDelta("Hello")], [STOP]))
    stream.stop("disconnected")
    await asyncio.wait([stream.task])

    assert wire(stream).endswith(DONE_ABORTED)
    assert ended == [stream]


async def test_a_provider_that_swallows_the_cancellation_is_left_at_its_next_batch(make_stream):
    """`asyncio.wait_for` of Python 3.11 loses a cancellation that meets its result."""
    stream, turns = make_stream(), []

    async def deaf(turn):
        while len(turns) < 100:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            turns.append(1)
            yield [TextDelta("word ")]

    await first_word_of(stream, deaf)
    stream.stop("disconnected")
    told = wire(stream)
    await asyncio.wait([stream.task], timeout=PATIENCE)

    assert wire(stream).startswith(told)
    assert names(wire(stream).removeprefix(told)) == ["usage", "done"]
    assert wire(stream).endswith(DONE_ABORTED)
    assert len(turns) < 10


async def test_a_provider_is_let_go_before_an_answer_nobody_reads_is_told_over(make_stream, ended):
    """Counting and storing what was said would keep its socket open, and tokens coming."""
    stream, ended_by_then = make_stream(), []

    async def answer(turn):
        try:
            yield [TextDelta("Hello")]
            await asyncio.get_running_loop().create_future()
        finally:
            ended_by_then.extend(ended)

    await first_word_of(stream, answer)
    stream.stop("disconnected")
    await asyncio.wait([stream.task], timeout=PATIENCE)

    assert ended_by_then == []
    assert ended == [stream]


async def test_a_provider_that_does_not_let_go_cannot_keep_an_answer_from_ending(
    make_stream, ended
):
    stream, free = make_stream(letting_go=0.01), asyncio.Event()

    async def clinging(turn):
        try:
            yield [TextDelta("Hello")]
            await asyncio.get_running_loop().create_future()
        finally:
            await free.wait()

    listener = Listener()
    await first_word_of(stream, clinging)
    stream.log.attach(listener)
    listener.heard.clear()
    stream.stop("disconnected")
    await asyncio.wait_for(listener.heard.wait(), PATIENCE)
    still_there = not stream.task.done()
    free.set()
    await asyncio.wait([stream.task], timeout=PATIENCE)

    assert still_there
    assert ended == [stream]
    assert wire(stream).endswith(DONE_ABORTED)


async def test_a_drained_answer_says_that_the_server_failed(make_stream):
    stream = make_stream()
    await first_word_of(stream, answering([TextDelta("Hello")], None))

    stream.stop("drained")
    await asyncio.wait([stream.task])

    assert names(wire(stream)) == ["token", "token", "usage", "done"]
    assert SENTENCE_AFTER_WORDS in wire(stream)
    assert wire(stream).endswith(DONE_ERROR)


async def test_the_last_reader_who_leaves_aborts_a_plain_answer(make_stream):
    stream = make_stream()

    with stream.attach(Listener()):
        with stream.attach(Listener()):
            stream.start(answering([TextDelta("Hello")], None))
        assert not stream.log.ended
    await asyncio.wait([stream.task])

    assert stream.report.disconnected
    assert wire(stream).endswith(DONE_ABORTED)


async def test_a_reader_who_comes_back_in_time_keeps_the_answer(make_stream):
    stream, go_on = make_stream(resumable=True, grace=30.0), asyncio.Event()

    with stream.attach(Listener()):
        stream.start(answering([TextDelta("Hello")], go_on, [USAGE, STOP]))
    with stream.attach(Listener()):
        go_on.set()
        await asyncio.wait([stream.task])

    assert wire(stream) == (
        b'event: token\ndata: {"text":"Hello"}\nid: 1\n\n'
        b"event: usage\n"
        b'data: {"tokens_in":5,"tokens_out":15,"cost_usd":0.00000975,"model":"gpt-4o-mini"}\n'
        b"id: 2\n\n"
        b'event: done\ndata: {"finish_reason":"stop","events":3}\nid: 3\n\n'
    )


async def test_a_grace_period_without_a_reader_ends_in_an_abort(make_stream):
    stream = make_stream(resumable=True, grace=0.001)

    stream.expect_reader()
    stream.start(answering(None))
    await asyncio.wait([stream.task], timeout=PATIENCE)

    assert wire(stream).endswith(
        b'event: done\ndata: {"finish_reason":"aborted","events":2}\nid: 2\n\n'
    )


async def test_a_log_that_nobody_will_read_gives_its_room_back(make_stream):
    room = Room(268_435_456)
    stream = make_stream(room=room)

    with stream.attach(Listener()):
        await finished(stream, answering([TextDelta("Hello")], [STOP]))
        assert room.held > 0

    assert room.held == 0


async def test_a_first_attempt_that_fails_for_good_is_recorded_with_its_provider(make_stream):
    """Nothing connected and nothing was retried, so only the error itself names it."""
    stream = make_stream()
    quota = ProviderRateLimited("openai", "quota", phase="headers", status=429, retry_after=3600.0)

    async def refusing(turn):
        raise quota
        yield ()

    await finished(stream, refusing)

    call, error = stream.report.telemetry()
    assert call.payload["provider"] == "openai"
    assert error.payload == {
        "code": "RATE_LIMIT",
        "status": 429,
        "phase": "headers",
        "provider": "openai",
        "retry_after_ms": 3_600_000,
    }
