"""Answer a turn: recall, history, prompt, provider, all as one stream of events."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from services.events import Asked, Batches, Recalled
from services.providers import Provider
from services.turn import Message, Prompt, Turn


@dataclass(frozen=True, slots=True)
class Background:
    """What a prompt holds besides the message: remembered text, the session's recent turns."""

    passages: str = ""
    history: tuple[Message, ...] = ()
    recalled: Recalled | None = None


class Context(Protocol):
    """Finds a turn's background."""

    async def background(self, turn: Turn) -> Background:
        """What is known that bears on *turn*. Never raises; bounded in time."""
        ...


class Chat:
    """Answers turns with *provider*, told *system_prompt* and what *context* finds."""

    def __init__(self, provider: Provider, context: Context, *, system_prompt: str) -> None:
        self._provider = provider
        self._context = context
        self._system_prompt = system_prompt

    async def answer(self, turn: Turn) -> Batches:
        """The events of *turn* up to its `Finish`. Raises `ProviderError`.

        Cancellation stops it at whatever it waits for, and closes the provider's socket.
        """
        background = await self._context.background(turn)
        prompt = Prompt(
            system="\n\n".join(filter(None, (self._system_prompt, background.passages))),
            messages=(*background.history, Message("user", turn.message)),
            scenario=turn.scenario,
        )
        if background.recalled is not None:
            yield (background.recalled,)
        yield (Asked(prompt),)
        async with aclosing(self._provider.stream(prompt)) as batches:
            async for batch in batches:
                yield batch
