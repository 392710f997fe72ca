"""What every memory does, whatever is behind it."""

from __future__ import annotations

from datetime import timedelta

from said import MAY, turn

from services.memory import Memory


async def test_what_was_said_is_found_with_who_when_and_where(memory: Memory) -> None:
    await memory.add(turn("My dog Biscuit is afraid of thunder"), "Poor thing!")
    await memory.add(turn("I went to Lisbon", session="session-2", request="req_2"), "Lovely.")

    [best, *_] = await memory.search("alice", "dog thunder", limit=5)

    assert best.text == "My dog Biscuit is afraid of thunder"
    assert (best.role, best.session_id, best.said_at) == ("user", "session-1", MAY)


async def test_answers_are_remembered_as_the_assistants(memory: Memory) -> None:
    await memory.add(turn("Recommend something"), "Read Middlemarch by George Eliot")

    [best, *_] = await memory.search("alice", "middlemarch", limit=1)

    assert (best.text, best.role) == ("Read Middlemarch by George Eliot", "assistant")


async def test_the_most_relevant_comes_first_and_relevance_is_a_share(memory: Memory) -> None:
    await memory.add(turn("the piano needs tuning"), "")
    await memory.add(turn("the piano and the violin", session="session-2", request="req_2"), "")

    found = await memory.search("alice", "piano violin", limit=10)

    assert [passage.text for passage in found] == [
        "the piano and the violin",
        "the piano needs tuning",
    ]
    assert 1 >= found[0].relevance > found[1].relevance > 0


async def test_no_more_than_the_limit_is_found(memory: Memory) -> None:
    for number in range(5):
        await memory.add(turn(f"tea number {number}", request=f"req_{number}"), "")

    assert len(await memory.search("alice", "tea", limit=3)) == 3


async def test_one_user_never_finds_what_another_said(memory: Memory) -> None:
    await memory.add(turn("the code is swordfish", user="bob"), "noted, swordfish")
    await memory.add(turn("something else"), "")

    assert await memory.search("alice", "code swordfish", limit=10) == []


async def test_a_user_who_said_nothing_finds_nothing(memory: Memory) -> None:
    assert list(await memory.search("nobody", "anything", limit=10)) == []


async def test_a_forgotten_session_is_not_found_and_others_are(memory: Memory) -> None:
    await memory.add(turn("marmalade sandwich", session="session-1"), "")
    await memory.add(turn("marmalade toast", session="session-2", request="req_2"), "")

    await memory.forget("alice", "session-1")

    found = await memory.search("alice", "marmalade", limit=10)
    assert [passage.text for passage in found] == ["marmalade toast"]


async def test_forgetting_everything_leaves_other_users_alone(memory: Memory) -> None:
    await memory.add(turn("marmalade"), "")
    await memory.add(turn("marmalade", user="bob"), "")

    await memory.forget("alice")

    assert list(await memory.search("alice", "marmalade", limit=10)) == []
    assert len(await memory.search("bob", "marmalade", limit=10)) == 1


async def test_what_was_forgotten_can_be_said_again(memory: Memory) -> None:
    await memory.add(turn("marmalade"), "")
    await memory.forget("alice", "session-1")

    await memory.add(turn("marmalade again", at=MAY + timedelta(days=1)), "")

    assert [p.text for p in await memory.search("alice", "marmalade", limit=10)] == [
        "marmalade again"
    ]


async def test_forgetting_what_is_not_there_does_nothing(memory: Memory) -> None:
    await memory.forget("nobody")
    await memory.forget("nobody", "session-1")


async def test_turns_without_a_session_are_remembered_apart(memory: Memory) -> None:
    await memory.add(turn("first marmalade", session=None), "")
    await memory.add(turn("second marmalade", session=None, request="req_2"), "")

    found = await memory.search("alice", "marmalade", limit=10)

    assert len(found) == 2
    assert found[0].session_id != found[1].session_id


async def test_blank_answers_are_not_remembered(memory: Memory) -> None:
    await memory.add(turn("marmalade"), " \n")

    assert [p.role for p in await memory.search("alice", "marmalade", limit=10)] == ["user"]


async def test_a_turn_is_remembered_once_however_often_it_is_added(memory: Memory) -> None:
    """Its writer does not know whether it is there when the answer to a write was lost."""
    for session in ("session-1", None):
        for _ in range(2):
            await memory.add(turn("marmalade", session=session), "and toast")

    found = await memory.search("alice", "marmalade toast", limit=10)

    assert sorted(passage.text for passage in found) == ["and toast"] * 2 + ["marmalade"] * 2
