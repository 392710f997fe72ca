"""A provider that plays one attempt after another, as a test wrote them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeAlias

from services.errors import ProviderUnavailable
from services.events import Batch, Batches, Connected, Finish, TextDelta
from services.turn import Prompt

Attempt: TypeAlias = Sequence[Batch | Exception]

FORTUNE: Attempt = (
    (Connected("fake", "m", 0.0),),
    (TextDelta("Hello"),),
    (TextDelta(" world"), Finish("stop")),
)


class Attempts:
    """Plays *attempts* in order, the last one again and again; `prompts` are those it was asked."""

    def __init__(self, *attempts: Attempt, name: str = "fake") -> None:
        self._attempts = list(attempts)
        self._name = name
        self.prompts: list[Prompt] = []
        self.closed = 0

    @property
    def name(self) -> str:
        return self._name

    async def stream(self, prompt: Prompt) -> Batches:
        self.prompts.append(prompt)
        attempt = self._attempts.pop(0) if len(self._attempts) > 1 else self._attempts[0]
        try:
            for step in attempt:
                await asyncio.sleep(0)
                if isinstance(step, Exception):
                    raise step
                yield step
        finally:
            self.closed += 1


def broken(**facts: object) -> ProviderUnavailable:
    """A failure that a retry may help."""
    return ProviderUnavailable("fake", "broke", phase="headers", **facts)  # type: ignore[arg-type]
