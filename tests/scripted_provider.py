"""A provider that plays what a test gives it: events, pauses, failures, or nothing for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeAlias

from services.events import Batches, Connected, Event, Finish, TextDelta, Usage
from services.turn import Prompt

Step: TypeAlias = Sequence[Event] | Exception | asyncio.Event | None

USAGE = Usage(tokens_in=5, tokens_out=15, model="gpt-4o-mini")
STOP = Finish("stop")


class ScriptedProvider:
    """Plays *steps* for every prompt.

    A sequence of events is a batch; an exception is raised; an `asyncio.Event` is waited for; None
    waits for ever. `asked` has every prompt; `running` counts the streams that are open now.
    """

    name = "scripted"

    def __init__(self, *steps: Step) -> None:
        self.steps = steps
        self.asked: list[Prompt] = []
        self.running = 0
        self.started = asyncio.Event()
        self.closed = asyncio.Event()

    async def stream(self, prompt: Prompt) -> Batches:
        self.asked.append(prompt)
        self.running += 1
        self.started.set()
        try:
            yield (Connected(self.name, "gpt-4o-mini", 0.0),)
            for step in self.steps:
                match step:
                    case None:
                        await asyncio.Event().wait()
                    case asyncio.Event():
                        await step.wait()
                    case Exception():
                        raise step
                    case _:
                        yield step
        finally:
            self.running -= 1
            self.closed.set()


def says(*words: str) -> ScriptedProvider:
    """A provider that says *words*, each in a batch of its own, and stops."""
    return ScriptedProvider(*[(TextDelta(word),) for word in words], (USAGE, STOP))
