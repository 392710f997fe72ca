"""Memory in a running service: what it brings into a prompt, and that its failures cost nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from chat_client import ChatClient, events, texts
from scripted_provider import says
from telemetry_rows import rows_of

from services.memory import Passage
from services.turn import Turn

FIRST = "session-20250819-143022-a1b2"
SECOND = "session-20250820-090000-zz99"
TOLD = (
    "My dog Biscuit is afraid of thunderstorms.",
    "My dog Biscuit loves long walks by the river.",
    "My dog Biscuit is seven years old.",
)


class Away:
    """A memory whose searches fail, or never come back."""

    def __init__(self, failure: Exception | None) -> None:
        self._failure = failure

    async def search(
        self, user_id: str, query: str, *, limit: int, session_id: str | None = None
    ) -> Sequence[Passage]:
        if self._failure:
            raise self._failure
        await asyncio.Event().wait()
        raise AssertionError("nobody wakes it")

    async def add(self, turn: Turn, answer: str) -> None:
        pass

    async def forget(self, user_id: str, session_id: str | None = None) -> None:
        pass


class Held(Away):
    """A memory whose searches find nothing, once they are released."""

    def __init__(self) -> None:
        super().__init__(None)
        self.release = asyncio.Event()

    async def search(
        self, user_id: str, query: str, *, limit: int, session_id: str | None = None
    ) -> Sequence[Passage]:
        await self.release.wait()
        return ()


async def _remembered(client: ChatClient) -> None:
    for message in TOLD:
        await client.ask(message, sessionId=FIRST)
    await client.services.streams.idle()
    await client.services.archive.settled()


def _quoted(system: str) -> list[str]:
    return [line for line in system.splitlines() if line[:2] == "20"]


@pytest.mark.parametrize("failure", [None, OSError("away"), KeyError("a bug")])
async def test_a_memory_that_hangs_or_fails_costs_the_user_nothing(
    serving: Any, tmp_path: Path, failure: Exception | None
) -> None:
    url = f"sqlite:///{tmp_path}/rows.db"
    variables = {"DATABASE_URL": url, "MEMORY_TIMEOUT_MS": "50"}
    client = await serving(variables, provider=says("Hello."), memory=Away(failure))

    async with client.stream("What is my dog called?", useMemory=True) as stream:
        first = await stream.next()
        rest = await stream.rest()

    assert first == b": Connected to chat stream\n\n"
    assert texts(rest) == "Hello."
    assert events(rest)[-1] == ("done", {"finish_reason": "stop"})
    [(_, row)] = await rows_of(url, 1)
    assert row["memory_degraded"] is True
    assert row["finish_reason"] == "stop"


async def test_the_answer_begins_before_memory_is_searched_and_goes_on_when_it_was(
    serving: Any,
) -> None:
    provider = says("Hello.")
    memory = Held()
    client = await serving({"MEMORY_TIMEOUT_MS": "60000"}, provider=provider, memory=memory)

    async with client.stream("What is my dog called?", useMemory=True) as stream:
        assert await stream.next() == b": Connected to chat stream\n\n"
        assert provider.asked == []
        memory.release.set()
        assert texts(await stream.rest()) == "Hello."


async def test_asking_what_was_discussed_brings_the_previous_session(serving: Any) -> None:
    """The guide's own question."""
    provider = says("Noted.")
    client = await serving(provider=provider)
    await _remembered(client)

    await client.ask("What did we discuss before?", useMemory=True, sessionId=SECOND)

    assert all(message.rstrip(".") in provider.asked[-1].system for message in TOLD)


@pytest.mark.parametrize(
    ("variables", "lines"),
    [
        ({}, 6),
        # The best, its answer, and the next message.
        ({"MEMORY_TOP_K": "1"}, 3),
        ({"MEMORY_MIN_RELEVANCE_SCORE": "1.0"}, 0),
        ({"MEMORY_TOKEN_BUDGET": "0"}, 0),
    ],
)
async def test_settings_of_memory_decide_what_is_in_the_prompt(
    serving: Any, variables: dict[str, str], lines: int
) -> None:
    provider = says("Noted.")
    client = await serving(variables, provider=provider)
    await _remembered(client)

    await client.ask("What is my dog Biscuit afraid of?", useMemory=True, sessionId=SECOND)

    assert len(_quoted(provider.asked[-1].system)) == lines


@pytest.mark.parametrize(("sentences", "there"), [("1", False), ("2", True)])
async def test_long_passages_are_clipped_as_the_setting_says(
    serving: Any, sentences: str, there: bool
) -> None:
    provider = says("Noted.")
    client = await serving({"MEMORY_CLIP_SENTENCES": sentences}, provider=provider)
    best = "My dog Biscuit is afraid of thunderstorms, and hides below the kitchen table."
    other = "We painted the garden fence on Sunday, and it took all of the afternoon."
    await client.ask(f"{best} {other}", sessionId=FIRST)
    await client.services.streams.idle()
    await client.services.archive.settled()

    await client.ask("What is my dog Biscuit afraid of?", useMemory=True, sessionId=SECOND)

    system = provider.asked[-1].system
    assert (best in system, other in system) == (True, there)
