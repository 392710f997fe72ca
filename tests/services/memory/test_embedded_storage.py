"""What the embedded memory keeps: from whomever, at once, twice, and until it is told to forget."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from databases import Database
from said import MAY, turn

from services.memory.embedded import EmbeddedMemory
from services.storage.write_behind import Pace, WriteBehind


async def _texts(memory: EmbeddedMemory, question: str, *, limit: int = 10) -> list[str]:
    return [passage.text for passage in await memory.search("alice", question, limit=limit)]


async def test_an_empty_database_is_prepared_by_the_first_call(bare_database: Database) -> None:
    async with asyncio.TaskGroup() as group:
        for session in ("a", "b", "c"):
            group.create_task(
                EmbeddedMemory(bare_database).add(turn("pancakes", session=session), "")
            )

    assert len(await _texts(EmbeddedMemory(bare_database), "pancakes")) == 3


async def test_turns_added_at_once_all_find_their_place(embedded: EmbeddedMemory) -> None:
    await embedded.prepare()

    async with asyncio.TaskGroup() as group:
        for number in range(10):
            at = MAY + timedelta(seconds=number)
            group.create_task(embedded.add(turn(f"waffle {number}", at=at), "waffle"))

    assert len(await _texts(embedded, "waffle", limit=30)) == 20


async def test_a_crowd_of_writers_on_a_database_as_it_comes_is_no_trouble(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    """Without the service's own layer, each write opens the file and waits for the disk."""
    async with Database(f"sqlite:///{tmp_path}/plain.db", timeout=0.1) as plain:
        memory = EmbeddedMemory(plain)
        async with asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(memory.add(turn(f"waffle {number}"), ""))

        assert len(await memory.search("alice", "waffle", limit=50)) == 40


async def test_forgetting_erases_rows_and_index(
    bare_database: Database, embedded: EmbeddedMemory
) -> None:
    await embedded.add(turn("swordfish", session="a"), "noted")
    await embedded.add(turn("marlin", session="b"), "")
    await embedded.forget("alice", "a")

    assert await bare_database.fetch_val("SELECT count(*) FROM memory") == 1
    assert await bare_database.fetch_val("SELECT messages FROM memory_owners") == 1
    assert await bare_database.fetch_val("SELECT words FROM memory_owners") == 1

    await embedded.forget("alice")

    for table in ("memory", "memory_sessions", "memory_owners"):
        assert await bare_database.fetch_val(f"SELECT count(*) FROM {table}") == 0
    if bare_database.url.dialect == "sqlite":
        assert await bare_database.fetch_val("SELECT count(*) FROM memory_terms") == 0
        await bare_database.execute(
            "INSERT INTO memory_index (memory_index) VALUES ('integrity-check')"
        )


async def test_text_a_database_refuses_is_kept_all_the_same(embedded: EmbeddedMemory) -> None:
    await embedded.add(turn("pan\0cakes \ud800 and syrup"), "")

    assert await _texts(embedded, "syrup") == ["pan\ufffdcakes \ufffd and syrup"]


async def test_a_moment_without_a_time_zone_is_utc(embedded: EmbeddedMemory) -> None:
    await embedded.add(turn("pancakes", at=datetime(2023, 5, 8, 13, 56)), "")  # noqa: DTZ001

    [found] = await embedded.search("alice", "pancakes", limit=1)

    assert found.said_at.isoformat() == "2023-05-08T13:56:00+00:00"


async def test_what_is_added_again_counts_once_and_leaves_no_gap(
    embedded: EmbeddedMemory, bare_database: Database
) -> None:
    """Counts weigh every term, and neighbours are those with the numbers before and after."""
    said = [(turn(f"tea number {n}", at=MAY + timedelta(minutes=n)), "noted") for n in range(4)]
    await embedded.add_all(said[:2])
    counts = "SELECT messages, words FROM memory_owners"
    before = await bare_database.fetch_all(counts)

    await embedded.add_all(said[:2])
    await embedded.add(*said[1])
    after = await bare_database.fetch_all(counts)
    await embedded.add_all(said[1:])

    assert [(row["messages"], row["words"]) for row in (*before, *after)] == [(4, 8), (4, 8)]
    rows = await bare_database.fetch_all("SELECT id & 16777215 AS number FROM memory ORDER BY id")
    assert [row["number"] for row in rows] == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_the_same_words_said_again_are_remembered_again(
    embedded: EmbeddedMemory, bare_database: Database
) -> None:
    for n in range(2):
        await embedded.add(turn("good morning", at=MAY + timedelta(microseconds=n)), "hello")

    assert await bare_database.fetch_val("SELECT count(*) FROM memory") == 4


async def test_a_turn_added_twice_at_once_is_remembered_once(
    embedded: EmbeddedMemory, bare_database: Database
) -> None:
    """The first attempt may still be on its way in the server when it is given up here."""
    await embedded.prepare()
    async with asyncio.TaskGroup() as both:
        for _ in range(4):
            both.create_task(embedded.add(turn("marmalade"), "toast"))

    assert await bare_database.fetch_val("SELECT count(*) FROM memory") == 2
    assert await bare_database.fetch_val("SELECT messages FROM memory_owners") == 2


async def _numbers(database: Database) -> list[tuple[str, int, str]]:
    """Each message by its session, its number in it, and its text."""
    rows = await database.fetch_all(
        "SELECT s.session_id, m.id & 16777215 AS number, m.content"
        " FROM memory m JOIN memory_sessions s ON s.id = m.id >> 24 ORDER BY m.content"
    )
    return [(row["session_id"], row["number"], row["content"]) for row in rows]


async def test_turns_of_many_owners_and_sessions_are_remembered_together_each_in_its_place(
    embedded: EmbeddedMemory, bare_database: Database
) -> None:
    """They are one statement, in which sessions alternate and moments coincide."""
    await embedded.add_all(
        [
            (turn("a", user="zoe", session="one"), "b"),
            (turn("c", session="one"), "d"),
            (turn("e", session="two"), "f"),
            (turn("g", user="zoe", session="one"), ""),
            (turn("h", session="one"), "i"),
        ]
    )

    assert await _numbers(bare_database) == [
        ("one", 1, "a"), ("one", 2, "b"), ("one", 1, "c"), ("one", 2, "d"),
        ("two", 1, "e"), ("two", 2, "f"), ("one", 3, "g"), ("one", 3, "h"), ("one", 4, "i"),
    ]  # fmt: skip
    counts = await bare_database.fetch_all("SELECT messages, words FROM memory_owners")
    assert sorted((row["messages"], row["words"]) for row in counts) == [(3, 3), (6, 6)]


async def test_a_turn_that_is_twice_in_a_batch_is_remembered_once(
    embedded: EmbeddedMemory, bare_database: Database
) -> None:
    """A statement does not see what it writes itself."""
    said = (turn("marmalade"), "toast")

    await embedded.add_all([said, (turn("honey"), "toast"), said])

    assert await _numbers(bare_database) == [
        ("session-1", 3, "honey"),
        ("session-1", 1, "marmalade"),
        ("session-1", 2, "toast"),
    ]
    assert await bare_database.fetch_val("SELECT words FROM memory_owners") == 3


async def _fill_up(database: Database, session: str) -> None:
    """Let *session* have all the messages it can."""
    await database.execute(
        f"UPDATE memory_sessions SET messages = 16777215 WHERE session_id = '{session}'"
    )


async def test_of_a_batch_that_is_refused_nothing_is_remembered(
    embedded: EmbeddedMemory, bare_database: Database
) -> None:
    await embedded.add(turn("tea", session="full"), "")
    await _fill_up(bare_database, "full")
    batch = [
        (turn("pancakes", session="a"), ""),
        (turn("waffles", session="full"), ""),
        (turn("toast", session="b"), ""),
    ]

    with pytest.raises((sqlite3.IntegrityError, asyncpg.CheckViolationError)):
        await embedded.add_all(batch)

    assert await bare_database.fetch_val("SELECT count(*) FROM memory") == 1
    assert await bare_database.fetch_val("SELECT messages FROM memory_owners") == 1
    assert await bare_database.fetch_val("SELECT count(*) FROM memory_sessions") == 1


async def test_one_turn_that_is_refused_costs_no_other_its_place(
    embedded: EmbeddedMemory, bare_database: Database
) -> None:
    await embedded.add(turn("tea", session="full"), "")
    await _fill_up(bare_database, "full")
    behind = WriteBehind("Memory", "Turns to remember", embedded.add_all, Pace(linger=0.01))

    async with behind.writing():
        for number in range(7):
            session = "full" if number == 4 else f"session-{number}"
            behind.put((turn(f"waffle {number}", session=session), ""))
        await behind.written(lambda _: True)

    assert behind.dropped == 1
    assert len(await _texts(embedded, "waffle", limit=30)) == 6
