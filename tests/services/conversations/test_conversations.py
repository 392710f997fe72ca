from __future__ import annotations

from datetime import timedelta

import pytest
from databases import Database
from finished import NOON, finished

from services.errors import ValidationFailed
from services.storage.conversations import Conversations
from services.turn import Message


async def _all_messages(conversations: Conversations, user: str, session: str) -> list[str]:
    page = await conversations.messages(user, session, limit=100)
    return [message.content for message in page.items]


async def test_a_turn_is_stored_as_two_messages(conversations: Conversations) -> None:
    await conversations.add(finished("how are you", "fine, thanks"))

    answer, question = (await conversations.messages("alice", "session-a", limit=10)).items

    assert (question.role, question.content, question.tokens) == ("user", "how are you", 3)
    assert question.finish_reason is None
    assert (answer.role, answer.content, answer.tokens) == ("assistant", "fine, thanks", 2)
    assert (answer.finish_reason, answer.said_at) == ("stop", NOON)


async def test_what_was_said_before_a_failure_is_stored(conversations: Conversations) -> None:
    await conversations.add(finished("a story", "Once upon", reason="aborted"))
    await conversations.add(finished("another", "", reason="error"))

    page = await conversations.messages("alice", "session-a", limit=10)

    assert [(m.content, m.finish_reason) for m in page.items] == [
        ("", "error"),
        ("another", None),
        ("Once upon", "aborted"),
        ("a story", None),
    ]


async def test_turns_stored_together_keep_their_order(
    conversations: Conversations, database: Database
) -> None:
    """Their messages' ids are the order of the conversation."""
    turns = [finished(f"question {number}", f"answer {number}") for number in range(30)]

    await conversations.add(*turns)

    rows = await database.fetch_all("SELECT content FROM messages ORDER BY id")
    assert [row["content"] for row in rows] == [
        text for number in range(30) for text in (f"question {number}", f"answer {number}")
    ]


async def test_a_turn_is_stored_once_however_often_it_is_written(
    conversations: Conversations,
) -> None:
    turn = finished("hello")

    await conversations.add(turn)
    await conversations.add(turn)

    assert await _all_messages(conversations, "alice", "session-a") == ["ok", "hello"]


async def test_history_is_the_latest_that_fits_oldest_first(conversations: Conversations) -> None:
    """A message takes its tokens and the four that wrap it."""
    for number in range(4):
        await conversations.add(finished(f"question {number}", f"answer {number}"))

    recent = await conversations.recent("alice", "session-a", budget=4 * 6)

    assert recent == [
        Message("user", "question 2"),
        Message("assistant", "answer 2"),
        Message("user", "question 3"),
        Message("assistant", "answer 3"),
    ]


async def test_history_never_begins_with_an_answer(conversations: Conversations) -> None:
    """Providers refuse a conversation the assistant opens."""
    for number in range(4):
        await conversations.add(finished(f"question {number}", f"answer {number}"))

    recent = await conversations.recent("alice", "session-a", budget=3 * 6)

    assert recent == [Message("user", "question 3"), Message("assistant", "answer 3")]


async def test_history_leaves_out_answers_of_which_nothing_came(
    conversations: Conversations,
) -> None:
    await conversations.add(finished("hello", "", reason="error"))

    assert await conversations.recent("alice", "session-a", budget=100) == [
        Message("user", "hello")
    ]


@pytest.mark.parametrize("words", [200, 2751])
async def test_what_was_said_last_is_history_however_long_it_was(
    conversations: Conversations, words: int
) -> None:
    """One long answer once left the next turn without even the question it was the answer to."""
    await conversations.add(finished("before"))
    long = " ".join(f"word{number}" for number in range(words))
    await conversations.add(finished("count for me", long))

    question, answer = await conversations.recent("alice", "session-a", budget=150)

    assert question == Message("user", "count for me")
    assert answer.content.startswith("word0 word1 ")
    assert "\n[…]\n" in answer.content
    assert answer.content.endswith(f" word{words - 1}")
    assert 100 <= len(answer.content.split()) <= 150 - 4 - 3 - 4


async def test_an_answer_stored_with_the_tokens_that_were_billed_is_history_too(
    conversations: Conversations, database: Database
) -> None:
    """So it was done once, and what models thought counted against the budget of a prompt."""
    await conversations.add(finished("What is 17 times 23?", "391"))
    await database.execute("UPDATE messages SET tokens = 2100 WHERE role = 'assistant'")

    assert await conversations.recent("alice", "session-a", budget=2000) == [
        Message("user", "What is 17 times 23?"),
        Message("assistant", "391"),
    ]


async def test_a_long_question_and_a_long_answer_share_the_budget(
    conversations: Conversations,
) -> None:
    await conversations.add(finished("q " * 900, "a " * 900))

    question, answer = await conversations.recent("alice", "session-a", budget=208)

    assert 80 <= question.content.count("q") <= 100
    assert 80 <= answer.content.count("a") <= 120


async def test_an_earlier_answer_is_clipped_into_what_is_left(
    conversations: Conversations,
) -> None:
    await conversations.add(finished("first", "x " * 900))
    await conversations.add(finished("second", "y " * 80))

    first, clipped, *second = await conversations.recent("alice", "session-a", budget=300)

    assert first == Message("user", "first")
    assert 100 <= clipped.content.count("x") <= 300 - 89 - 9
    assert [message.content for message in second] == ["second", "y " * 80]


async def test_history_is_never_more_than_its_budget(conversations: Conversations) -> None:
    for number in range(4):
        await conversations.add(finished("q " * 30 * number, "a " * 70 * (4 - number)))

    for budget in range(0, 700, 7):
        recent = await conversations.recent("alice", "session-a", budget=budget)

        assert sum(len(message.content.split()) + 4 for message in recent) <= budget
        assert [message.role for message in recent[:1]] in ([], ["user"])
        assert len(recent) >= 2 or budget < 30


@pytest.mark.parametrize("blank", [" ", "\n\n", "\t\u00a0\u3000"])
async def test_history_leaves_out_answers_that_are_blank(
    conversations: Conversations, blank: str
) -> None:
    """Anthropic refuses a conversation with such a message, in every turn from then on."""
    await conversations.add(finished("hello", blank))
    await conversations.add(finished("again", "Hello"))

    assert await conversations.recent("alice", "session-a", budget=100) == [
        Message("user", "hello"),
        Message("user", "again"),
        Message("assistant", "Hello"),
    ]


async def test_history_is_the_callers_own(conversations: Conversations) -> None:
    """A session id is guessable; it opens nothing by itself."""
    await conversations.add(finished("bob's", user="bob"))

    assert await conversations.recent("alice", "session-a", budget=100) == []
    assert await _all_messages(conversations, "alice", "session-a") == []
    assert (await conversations.sessions("alice", limit=10)).items == []


async def test_sessions_are_listed_last_active_first(conversations: Conversations) -> None:
    await conversations.add(finished("1", session="session-a", minute=0))
    await conversations.add(finished("2", session="session-b", minute=1))
    await conversations.add(finished("3", session="session-a", minute=2))
    await conversations.add(finished("4", session=None, minute=3))

    first, second = (await conversations.sessions("alice", limit=10)).items

    assert (first.id, first.messages) == ("session-a", 4)
    assert (first.started_at, first.active_at) == (NOON, NOON + timedelta(minutes=2))
    assert (second.id, second.messages) == ("session-b", 2)


async def test_pages_of_sessions_leave_nothing_out(conversations: Conversations) -> None:
    """Two of them were active at the very same moment."""
    for number, minute in enumerate([0, 1, 1, 1, 2]):
        await conversations.add(finished("x", session=f"session-{number}", minute=minute))

    seen, cursor = [], None
    for _ in range(3):
        page = await conversations.sessions("alice", limit=2, cursor=cursor)
        seen += [session.id for session in page.items]
        cursor = page.next_cursor

    assert seen == ["session-4", "session-3", "session-2", "session-1", "session-0"]
    assert cursor is None


async def test_pages_of_messages_leave_nothing_out_while_more_is_said(
    conversations: Conversations,
) -> None:
    for number in range(3):
        await conversations.add(finished(f"question {number}", f"answer {number}"))
    first = await conversations.messages("alice", "session-a", limit=4)
    await conversations.add(finished("question 3", "answer 3"))

    second = await conversations.messages("alice", "session-a", limit=4, cursor=first.next_cursor)

    assert [m.content for m in first.items] == ["answer 2", "question 2", "answer 1", "question 1"]
    assert [m.content for m in second.items] == ["answer 0", "question 0"]
    assert second.next_cursor is None


async def test_a_cursor_that_is_none_is_refused(conversations: Conversations) -> None:
    with pytest.raises(ValidationFailed):
        await conversations.sessions("alice", limit=2, cursor="nonsense")


async def test_a_deleted_session_is_gone_and_others_stay(conversations: Conversations) -> None:
    await conversations.add(finished("1", session="session-a"))
    await conversations.add(finished("2", session="session-b"))
    await conversations.add(finished("3", session="session-a", user="bob"))

    there = await conversations.delete("alice", "session-a")

    assert there
    assert not await conversations.delete("alice", "session-a")
    assert await _all_messages(conversations, "alice", "session-a") == []
    assert await _all_messages(conversations, "alice", "session-b") == ["ok", "2"]
    assert await _all_messages(conversations, "bob", "session-a") == ["ok", "3"]


async def test_deleting_everything_takes_turns_without_a_session_too(
    conversations: Conversations,
) -> None:
    await conversations.add(finished("1", session=None))

    assert await conversations.delete("alice")
    assert not await conversations.delete("alice")


async def test_an_answer_with_characters_postgres_refuses_is_stored(
    conversations: Conversations,
) -> None:
    await conversations.add(finished("hello", "a\0b\udc00"))

    assert await _all_messages(conversations, "alice", "session-a") == ["a\ufffdb\ufffd", "hello"]


async def test_the_tokens_of_a_long_answer_are_those_of_all_its_words(
    conversations: Conversations,
) -> None:
    """They are counted piece by piece, so that nobody waits for all of them."""
    await conversations.add(finished("count", "one two three four " * 5_000))

    answer, _ = (await conversations.messages("alice", "session-a", limit=10)).items

    assert answer.tokens == 20_000


async def test_what_is_very_long_has_its_tokens_judged_by_its_beginning(database: Database) -> None:
    """The next turn waited for those of a megabyte for half a second, and of four in vain."""
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return len(text) // 4

    conversations = Conversations(database, count=count)
    await conversations.add(finished("hi", "four" * 250_000))

    assert len("".join(counted)) < 110_000
    newest = (await conversations.messages("alice", "session-a", limit=1)).items[0]
    assert 249_000 <= newest.tokens <= 251_000
