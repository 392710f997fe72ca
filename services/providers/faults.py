"""Play a failure on demand, through the same decoding, retrying and reporting as a real one."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from contextvars import ContextVar
from typing import Final, Literal, TypeAlias, assert_never, get_args

from services.events import Attempt, Batches, Connected, Event
from services.providers import Provider
from services.providers.failures import http_failure, timed_out
from services.providers.openai import OpenAIAnswer
from services.providers.scripted import Stub
from services.turn import Prompt

Scenario: TypeAlias = Literal[
    "timeout",
    "rate_limit",
    "server_error",
    "retry_then_ok",
    "cut_mid_stream",
    "slow_first_token",
    "long_story",
    "malformed",
]
SCENARIOS: Final[tuple[Scenario, ...]] = get_args(Scenario)

# A turn runs in a task of its own, so a context variable is a variable of the turn.
_failed_before: ContextVar[Prompt | None] = ContextVar("failed_before", default=None)


class FaultInjection:
    """Stands in for *provider* when a prompt carries a scenario, and is not there when it does not.

    It wraps the adapter itself, inside of retry and fallback. What it plays is said to come from
    *model*, so that it has a price. Seconds: *first_token_delay* of
    `slow_first_token`, *story_duration* of `long_story`.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        model: str = "gpt-4o-mini",
        first_token_delay: float = 4.0,
        story_duration: float = 25.0,
    ) -> None:
        self._provider = provider
        self._model = model
        self._first_token_delay = first_token_delay
        self._stub = Stub(model=model, story_duration=story_duration)
        self._attempt = (Attempt(provider.name, model),)

    @property
    def name(self) -> str:
        """The wrapped provider's name."""
        return self._provider.name

    def stream(self, prompt: Prompt) -> Batches:
        """The wrapped provider's answer, or the failure that `prompt.scenario` names."""
        if prompt.scenario is None:
            return self._provider.stream(prompt)
        if prompt.scenario not in SCENARIOS:
            raise ValueError(f"unknown scenario: {prompt.scenario!r}")
        match prompt.scenario:
            case "timeout":
                return self._time_out()
            case "rate_limit":
                return self._refuse(429, {"retry-after-ms": "250"})
            case "server_error":
                return self._refuse(500, {})
            case "retry_then_ok":
                return self._fail_once(prompt)
            case "cut_mid_stream":
                return self._play(_ROLE + _WORDS)
            case "slow_first_token":
                return self._hesitate(prompt)
            case "long_story":
                return self._stub.story(prompt)
            case "malformed":
                return self._play(_ROLE + b'data: {"choices":[{"delta":{"content":\n\n')
            case _:
                assert_never(prompt.scenario)

    async def _time_out(self) -> Batches:
        yield self._attempt
        raise timed_out(self.name, "first_token")

    async def _refuse(self, status: int, headers: dict[str, str]) -> Batches:
        yield self._attempt
        raise http_failure(self.name, status, headers, b'{"error":{"type":"played"}}')

    async def _fail_once(self, prompt: Prompt) -> Batches:
        if _failed_before.get() is not prompt:
            _failed_before.set(prompt)
            yield self._attempt
            raise http_failure(self.name, 500, {}, b'{"error":{"type":"played"}}')
        _failed_before.set(None)
        async with aclosing(self._provider.stream(prompt)) as batches:
            async for batch in batches:
                yield batch

    async def _hesitate(self, prompt: Prompt) -> Batches:
        await asyncio.sleep(self._first_token_delay)
        async with aclosing(self._provider.stream(prompt)) as batches:
            async for batch in batches:
                yield batch

    async def _play(self, data: bytes) -> Batches:
        """What an upstream that sends *data*, and then ends, would have caused."""
        yield (*self._attempt, Connected(self.name, self._model, 0.0))
        answer = OpenAIAnswer(self.name, self._model)
        events: list[Event] = []
        answer.feed(data, events)
        yield events
        answer.end(events)


_ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
_WORDS = b"".join(
    b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % word
    for word in (b"This ", b"answer ", b"is ", b"about ", b"to ", b"break")
)
