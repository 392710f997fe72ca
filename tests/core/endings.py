"""Answers for tests of one stream: scripts that are played, and what became of them."""

from __future__ import annotations

import asyncio

from patience import PATIENCE
from scripted_provider import ScriptedProvider, Step

from services.events import Batches
from services.streaming.chat_stream import Answer, ChatStream
from services.turn import Message, Prompt, Turn

PROMPT = Prompt("Be brief.", (Message("user", "Hello, how are you?"),))


def answering(*steps: Step) -> Answer:
    """An answer that plays *steps*, see `ScriptedProvider`."""

    def answer(turn: Turn) -> Batches:
        return ScriptedProvider(*steps).stream(PROMPT)

    return answer


async def finished(stream: ChatStream, answer: Answer) -> None:
    """Start *stream* and wait until its task is done."""
    stream.start(answer)
    assert stream.task is not None
    await asyncio.wait([stream.task], timeout=PATIENCE)
    assert stream.log.ended
