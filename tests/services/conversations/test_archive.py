"""What was said is kept, found again, and erased."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from databases import Database
from finished import asked
from postgres import PostgresServer

from services.context import ConversationContext
from services.errors import Unavailable
from services.memory import Passage
from services.memory.embedded import EmbeddedMemory
from services.memory.recall import Recall, RecallPolicy
from services.storage.archive import Archive
from services.storage.conversations import Conversations
from services.storage.database import open_database
from services.storage.write_behind import Pace
from services.turn import Message, Turn


def _words(text: str) -> int:
    return len(text.split())


@pytest.fixture
async def archive(
    loop: Any, database: Database, conversations: Conversations
) -> AsyncIterator[Archive]:
    async with Archive(conversations, EmbeddedMemory(database)).writing() as archive:
        yield archive


async def test_the_next_turn_knows_the_one_just_kept(archive: Archive) -> None:
    """A script asks again before the last turn has reached the database."""
    archive.keep(asked("my name is Ann"), "Hello Ann", finish_reason="stop")

    history = await archive.history(asked("who am I?"), budget=1000)

    assert history == [Message("user", "my name is Ann"), Message("assistant", "Hello Ann")]


async def test_a_turn_without_a_session_has_no_history(archive: Archive) -> None:
    archive.keep(asked("hello", session=None), "hi", finish_reason="stop")

    assert await archive.history(asked("again", session=None), budget=1000) == ()


async def test_what_was_told_in_one_session_is_recalled_in_another(archive: Archive) -> None:
    archive.keep(
        asked("My dog Biscuit is afraid of thunder", session="session-a"),
        "Poor thing",
        finish_reason="stop",
    )
    recall = Recall(archive, RecallPolicy(), count=_words)
    context = ConversationContext(archive, recall, history_budget=1000)
    question = Turn(
        "req_2", "alice", "What is my dog afraid of?", session_id="session-b", use_memory=True
    )

    background = await context.background(question)

    assert '2026-05-08 user: "My dog Biscuit is afraid of thunder"' in background.passages
    assert background.history == ()
    assert background.recalled is not None
    assert background.recalled.passages >= 1


class Searched:
    """A memory that is searched for nothing, and says when."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def search(
        self, user_id: str, query: str, *, limit: int, session_id: str | None = None
    ) -> Sequence[Passage]:
        self.begun.set()
        return ()

    async def add(self, turn: Turn, answer: str) -> None:
        raise AssertionError("nobody asks for this here")

    async def forget(self, user_id: str, session_id: str | None = None) -> None:
        raise AssertionError("nobody asks for this here")


class AfterTheSearch(Archive):
    """An archive whose history comes only when memory is being searched."""

    begun: asyncio.Event

    async def history(self, turn: Turn, *, budget: int) -> Sequence[Message]:
        await self.begun.wait()
        return [Message("user", "before")]


async def test_history_and_memory_are_looked_up_side_by_side(
    conversations: Conversations,
) -> None:
    """With both slow, a turn waits for one second, not for two."""
    memory = Searched()
    archive = AfterTheSearch(conversations, memory)
    archive.begun = memory.begun
    recall = Recall(memory, RecallPolicy(timeout=60), count=_words)
    context = ConversationContext(archive, recall, history_budget=1000)

    async with asyncio.timeout(10):
        background = await context.background(replace(asked("again"), use_memory=True))

    assert background.history == (Message("user", "before"),)
    assert background.recalled is not None


async def test_memory_is_left_alone_unless_asked_for(archive: Archive) -> None:
    recall = Recall(archive, RecallPolicy(), count=_words)
    context = ConversationContext(archive, recall, history_budget=1000)

    background = await context.background(asked("hello"))

    assert (background.passages, background.recalled) == ("", None)


class Pages(EmbeddedMemory):
    """Notes how many turns are remembered together."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.sizes: list[int] = []

    async def add_all(self, said: Sequence[tuple[Turn, str]]) -> None:
        self.sizes.append(len(said))


async def test_long_answers_are_kept_a_few_at_a_time(
    database: Database, conversations: Conversations
) -> None:
    """A hundred at once were not done in time at a stop, and kept every history waiting."""
    memory = Pages(database)
    async with Archive(conversations, memory, Pace(batch=10)).writing() as archive:
        for number in range(4):
            archive.keep(asked(f"{number}"), "word " * 20_000, finish_reason="stop")

    assert memory.sizes == [2, 2]


async def test_erasing_a_session_takes_what_waits_to_be_written_too(
    archive: Archive, database: Database
) -> None:
    archive.keep(asked("swordfish", session="session-a"), "noted", finish_reason="stop")
    await archive.settled()
    archive.keep(asked("swordfish again", session="session-a"), "", finish_reason="stop")
    archive.keep(asked("marlin", session="session-b"), "", finish_reason="stop")

    assert await archive.erase("alice", "session-a")
    await archive.settled()

    said = [row["content"] for row in await database.fetch_all("SELECT content FROM messages")]
    assert said == ["marlin", ""]
    remembered = await database.fetch_all("SELECT content FROM memory")
    assert [row["content"] for row in remembered] == ["marlin"]


async def test_erasing_everything_leaves_other_users_alone(
    archive: Archive, database: Database
) -> None:
    archive.keep(asked("mine"), "", finish_reason="stop")
    archive.keep(asked("theirs", user="bob"), "", finish_reason="stop")
    await archive.settled()

    assert await archive.erase("alice")
    assert not await archive.erase("alice")

    remembered = await database.fetch_all("SELECT content FROM memory")
    assert [row["content"] for row in remembered] == ["theirs"]


class Dead:
    """A memory that is gone for good."""

    async def search(
        self, user_id: str, query: str, *, limit: int, session_id: str | None = None
    ) -> Sequence[Passage]:
        raise OSError

    async def add(self, turn: Turn, answer: str) -> None:
        await asyncio.Event().wait()

    async def forget(self, user_id: str, session_id: str | None = None) -> None:
        raise OSError


async def test_a_dead_memory_does_not_hold_up_conversations(
    conversations: Conversations,
) -> None:
    async with Archive(conversations, Dead(), Pace(close=0.05)).writing() as archive:
        archive.keep(asked("hello"), "hi", finish_reason="stop")
        archive.keep(asked("more"), "ok", finish_reason="stop")

        history = await archive.history(asked("again"), budget=1000)

    assert [message.content for message in history] == ["hello", "hi", "more", "ok"]


class Deaf(EmbeddedMemory):
    """A memory that stores what it is told, and once says that it could not."""

    failed = False

    async def add_all(self, said: Sequence[tuple[Turn, str]]) -> None:
        await super().add_all(said)
        if not self.failed:
            self.failed = True
            raise Unavailable


async def test_a_lost_acknowledgement_makes_no_memory_twice(
    conversations: Conversations, database: Database
) -> None:
    async with Archive(conversations, Deaf(database), Pace(retry=0.01)).writing() as archive:
        archive.keep(asked("swordfish"), "noted", finish_reason="stop")
        archive.keep(asked("marlin", session=None), "noted", finish_reason="stop")
        await archive.settled()

    remembered = await database.fetch_all("SELECT content FROM memory")
    assert sorted(row["content"] for row in remembered) == ["marlin", "noted", "noted", "swordfish"]


async def test_turns_outlive_a_crash_of_the_database(postgres_server: PostgresServer) -> None:
    async with open_database(postgres_server.create_database()) as database:
        conversations = Conversations(database, count=_words)
        memory = EmbeddedMemory(database)
        pace = Pace(retry=0.01)
        async with Archive(conversations, memory, pace, patience=5.0).writing() as archive:
            archive.keep(asked("before"), "ok", finish_reason="stop")
            await archive.settled()
            postgres_server.kill()
            archive.keep(asked("during"), "ok", finish_reason="stop")

            assert await archive.history(asked("now?"), budget=1000) == ()

            postgres_server.start()
            await archive.settled()
            # Without a deadline: the server has only just come back.
            history = await conversations.recent("alice", "session-a", budget=1000)

    assert [message.content for message in history] == ["before", "ok", "during", "ok"]
