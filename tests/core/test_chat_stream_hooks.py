"""What a plug-in's hook may do to a stream, and what its failure does."""

from __future__ import annotations

import asyncio

import pytest
from endings import answering, finished
from frames import DONE_ERROR, HELLO, SENTENCE, SENTENCE_AFTER_WORDS, USAGE_FRAME
from scripted_provider import STOP, USAGE

from services.events import Finish, TextDelta, Usage
from tests.core.conftest import names, wire


def failing_at(kind):
    """A hook that raises at the first event of *kind*."""

    def hook(turn, event):
        if not isinstance(event, kind):
            return [event]
        raise LookupError("broken hook")

    return hook


async def test_a_hook_that_raises_at_the_first_word_is_a_failure_before_it(make_stream, errors):
    stream = make_stream(failing_at(TextDelta))

    await finished(stream, answering([TextDelta("Hello")], [USAGE, STOP]))

    assert wire(stream) == SENTENCE + DONE_ERROR
    assert [record["message"] for record in errors] == ["SSE stream error"]


@pytest.mark.parametrize("kind", [Usage, Finish])
async def test_a_hook_that_raises_at_the_end_costs_neither_words_nor_usage(make_stream, kind):
    """The client is billed for what it read, so it is told."""
    stream = make_stream(failing_at(kind))

    await finished(stream, answering([TextDelta("Hello"), USAGE, STOP]))

    assert wire(stream) == HELLO + SENTENCE_AFTER_WORDS + USAGE_FRAME + DONE_ERROR
    assert [row.type for row in stream.report.telemetry()] == ["openai_call", "error"]
    assert stream.report.events == 4


@pytest.mark.parametrize(
    "made",
    [
        pytest.param([TextDelta(None)], id="text that is none"),
        pytest.param([Finish(object())], id="a reason that is none"),
        pytest.param(["done"], id="what is no event"),
        pytest.param(None, id="nothing to iterate"),
    ],
)
@pytest.mark.parametrize("kind", [TextDelta, Usage, Finish])
async def test_a_hook_that_makes_nonsense_ends_the_stream_all_the_same(make_stream, kind, made):
    """It was never ended: the client hung, and its slot was lost for good."""

    def hook(turn, event):
        return made if isinstance(event, kind) else [event]

    stream = make_stream(hook)

    await finished(stream, answering([TextDelta("Hello")], [USAGE, STOP]))

    assert names(wire(stream)).count("done") == 1
    assert names(wire(stream))[-1] == "done"


async def test_a_hook_that_raises_a_cancellation_ends_the_stream_all_the_same(make_stream):
    """As the result of a cancelled future does. The stream had no end, and no drain came to one."""

    def hook(turn, event):
        raise asyncio.CancelledError

    stream = make_stream(hook)

    await finished(stream, answering([TextDelta("Hello")], [USAGE, STOP]))

    assert wire(stream) == SENTENCE + DONE_ERROR


@pytest.mark.parametrize(
    ("events", "shown"),
    [
        ([TextDelta("Hello"), Finish("error", code="SERVER_ERROR")], "error"),
        ([TextDelta("Hello"), Finish("aborted")], "aborted"),
        ([TextDelta("Hello"), Finish("length")], "stop"),
    ],
)
async def test_no_hook_makes_an_answer_that_was_cut_look_complete(make_stream, events, shown):
    stream = make_stream(lambda turn, event: [STOP] if isinstance(event, Finish) else [event])

    await finished(stream, answering(events))

    assert b'"finish_reason":"%b"' % shown.encode() in wire(stream)


@pytest.mark.parametrize("early", [Finish("content_filter"), USAGE])
async def test_a_hook_cannot_put_the_end_between_the_words(make_stream, early):
    def hook(turn, event):
        return [event, early] if isinstance(event, TextDelta) else [event]

    stream = make_stream(hook)

    await finished(stream, answering([TextDelta("Hello")], [TextDelta("you")], [USAGE, STOP]))

    assert wire(stream) == SENTENCE + DONE_ERROR


async def test_a_hook_may_hold_words_back_and_release_them_at_the_end(make_stream):
    held = []

    def hook(turn, event):
        if isinstance(event, TextDelta):
            held.append(event.text)
            return []
        return [TextDelta("".join(held)), event] if isinstance(event, Finish) else [event]

    stream = make_stream(hook)

    await finished(stream, answering([TextDelta("Hel")], [TextDelta("lo")], [USAGE, STOP]))

    assert wire(stream) == HELLO + USAGE_FRAME + b'event: done\ndata: {"finish_reason":"stop"}\n\n'
    assert stream.text == "Hello"


async def test_hooks_see_events_in_their_order_and_what_the_one_before_made(make_stream):
    def shout(turn, event):
        return [TextDelta(event.text.upper())] if isinstance(event, TextDelta) else [event]

    def twice(turn, event):
        return [event, event] if isinstance(event, TextDelta) else [event]

    stream = make_stream(shout, twice)

    await finished(stream, answering([TextDelta("hi")], [USAGE, STOP]))

    assert stream.text == "HIHI"
