"""An answer whose words a provider pushes, from wherever the loop calls it."""

from __future__ import annotations

import asyncio

import pytest
from endings import finished
from scripted_provider import STOP, USAGE

from services.events import Offer, TextDelta
from tests.core.conftest import names, wire


class Said(asyncio.Queue):
    """What is to be pushed; `take` is what it is pushed to, as soon as `offered`."""

    def __init__(self) -> None:
        super().__init__()
        self.offered = asyncio.Event()


class Pushing(Offer):
    """Says "Hello", then pushes what the test gives to `said`, until that is None."""

    said: Said

    async def push(self, take):
        self.said.take = take
        self.said.offered.set()
        loop = asyncio.get_running_loop()
        failed = loop.create_future()

        def call(batch):
            try:
                take(batch)
            except Exception as exc:
                if not failed.done():
                    failed.set_exception(exc)

        while not failed.done() and (batch := await self.said.get()) is not None:
            loop.call_soon(call, batch)
            await asyncio.sleep(0)
        if failed.done():
            await failed


def pushing(said: Said, *then):
    async def answer(turn):
        offer = Pushing((TextDelta("Hello"),))
        offer.said = said
        yield offer
        for batch in then:
            yield batch

    return answer


@pytest.fixture
def said() -> Said:
    return Said()


async def test_pushed_words_stand_between_those_that_came_as_batches(make_stream, said):
    stream = make_stream()
    for batch in ([TextDelta(" big")], [TextDelta(" wide"), TextDelta(" world")], None):
        said.put_nowait(batch)

    await finished(stream, pushing(said, [TextDelta("!")], [USAGE, STOP]))

    assert stream.text == "Hello big wide world!"
    assert names(wire(stream)) == ["token"] * 5 + ["usage", "done"]


async def test_what_is_pushed_after_a_stop_is_not_heard_any_more(make_stream, said, errors):
    """The log has ended at once, and the provider learns of it a moment later."""
    stream = make_stream()
    task = asyncio.ensure_future(finished(stream, pushing(said)))
    async with asyncio.timeout(5):
        await said.offered.wait()

    stream.stop("stopped")
    said.take([TextDelta(" world")])
    await task

    assert stream.text == "Hello"
    assert names(wire(stream)) == ["token", "usage", "done"]
    assert errors == []


async def test_a_hook_that_fails_on_a_pushed_word_ends_the_answer(make_stream, said, errors):
    def hook(turn, event):
        if event == TextDelta(" world"):
            raise ValueError("no world")
        return [event]

    stream = make_stream(hook)
    said.put_nowait([TextDelta(" world")])

    await finished(stream, pushing(said))

    assert names(wire(stream)) == ["token", "token", "usage", "done"]
    assert wire(stream).endswith(b'{"finish_reason":"error","code":"SERVER_ERROR"}\n\n')
    assert [record["message"] for record in errors] == ["SSE stream error"]


async def test_pushed_words_that_are_too_many_end_the_answer(make_stream, said):
    stream = make_stream(max_bytes=100)
    for _ in range(2):
        said.put_nowait([TextDelta("x" * 60)])

    await finished(stream, pushing(said))

    assert wire(stream).endswith(b'{"finish_reason":"error","code":"SERVER_ERROR"}\n\n')
    assert stream.log.size < 1000
