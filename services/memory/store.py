"""Rows of remembered messages: what SQLite and Postgres do alike, around an index of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from databases.core import Connection

from services.memory import Passage
from services.memory.entry import Entry
from services.memory.owner import Owner
from services.memory.scoring import Corpus, Coverage, Traits
from services.storage.moments import moment_at
from services.storage.storable import storable
from services.turn import Role

# How far a passage's surroundings reach, in messages before and after it, nearest first.
_AROUND: Final = (-1, 1, -2, 2)

# What `Traits` are made of, and whose `memory m` must be.
TRAITS: Final = "m.length, m.is_question, m.speaker, m.said_at"
# An id that is not the owner's finds nothing. With a sign in front, the column's index is not used: by
# it, either database would read all of the owner's messages.
OWNED: Final = "+m.owner = (SELECT id FROM memory_owners WHERE owner = :owner)"


class Index(Protocol):
    """Where the SQL of the dialects differs.

    `ids` is what follows a column in the condition that the parameter `:ids`, a comma-separated
    list, has its value.
    """

    @property
    def ids(self) -> str: ...  # noqa: D102 - described above

    async def candidates(
        self, connection: Connection, owner: str, terms: Sequence[Sequence[str]]
    ) -> tuple[Corpus, Coverage, dict[int, Traits]]:
        """How much there is of *owner*, what `scoring.coverage` gives for *terms*, and of which messages.

        Each term is a list of tokens, any of which will do.
        """
        ...

    async def rows(
        self, connection: Connection, columns: str, source: str, values: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """*columns* of each row of *source*, hundreds of them at little cost."""
        ...

    async def insert(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Add the messages that are not there yet, and their terms to the index: all, or none.

        No two of *entries* are equal.
        """
        ...


@dataclass(frozen=True, slots=True)
class Remembered:
    """One message, as it was said."""

    traits: Traits
    session_id: str
    role: Role
    content: str


class Store:
    """Messages of all owners; each method sees those of one."""

    def __init__(self, index: Index) -> None:
        self._index = index

    async def insert(self, connection: Connection, entries: Iterable[Entry]) -> None:
        """Append *entries*, at least one, each to its session, in their order: all of them, or none."""
        # A statement does not see what it writes itself, so it would write equal ones twice.
        await self._index.insert(connection, list(dict.fromkeys(entries)))

    async def erase(self, connection: Connection, owner: Owner, session_id: str | None) -> None:
        """Erase a session, or all of *owner*; *connection* is in a transaction."""
        owned = {"owner": owner.id}
        sessions = _OWN_SESSIONS
        if session_id is not None:
            owned["session_id"] = storable(session_id)
            sessions += " AND session_id = :session_id"
        # Waits for a write of the same owner, so that what follows sees it.
        await connection.execute(_LOCK, {"owner": owner.id})
        for statement in _ERASE:
            await connection.execute(statement.format(sessions=sessions), owned)
        await connection.execute(_ERASE_EMPTY, {"owner": owner.id})

    async def candidates(
        self, connection: Connection, owner: Owner, terms: Iterable[frozenset[str]]
    ) -> tuple[Corpus, Coverage, dict[int, Traits]]:
        """How much there is of *owner*, which of *terms* the best messages have, and what else counts of them."""
        sought = [owner.tokens(spellings) for spellings in terms]
        return await self._index.candidates(connection, owner.id, sought)

    async def messages(
        self, connection: Connection, owner: Owner, ids: Iterable[int]
    ) -> dict[int, Remembered]:
        """The messages with *ids* and those around them."""
        wanted = {id_ + step for id_ in ids for step in (0, *_AROUND)}
        values = {"owner": owner.id, "ids": ",".join(map(str, wanted))}
        source = _MESSAGES.format(ids=self._index.ids)
        rows = await self._index.rows(connection, _MESSAGE, source, values)
        return {row[0]: Remembered(Traits(*row[1:5]), *row[5:]) for row in rows}

    async def newest(
        self, connection: Connection, owner: Owner, limit: int, *, outside: str | None
    ) -> list[int]:
        """The ids of the newest messages that are not of the session *outside*."""
        values = {"owner": owner.id, "session_id": storable(outside or ""), "most": limit}
        return [row["id"] for row in await connection.fetch_all(_NEWEST, values)]


def passages(relevance: dict[int, float], messages: dict[int, Remembered]) -> list[Passage]:
    """The *messages* with the ids of *relevance*, in its order, with those around each."""

    def passage(id_: int, relevance: float, around: tuple[Passage, ...]) -> Passage:
        said = messages[id_]
        return Passage(
            said.content,
            said.role,
            said.session_id,
            moment_at(said.traits.said_at),
            relevance,
            around,
        )

    def around(id_: int) -> tuple[Passage, ...]:
        near = (id_ + step for step in _AROUND)
        return tuple(passage(id_, 0.0, ()) for id_ in near if id_ in messages)

    return [passage(id_, score, around(id_)) for id_, score in relevance.items() if id_ in messages]


# SQLite takes the tables of a CROSS JOIN in the order they are written.
_MESSAGES = f"""
    FROM memory m CROSS JOIN memory_sessions s
    WHERE m.id {{ids}} AND {OWNED} AND s.id = m.id >> 24"""
_MESSAGE = f"m.id, {TRAITS}, s.session_id, m.role, m.content"

_NEWEST = """
    SELECT m.id
    FROM memory_owners o JOIN memory m ON m.owner = o.id JOIN memory_sessions s ON s.id = m.id >> 24
    WHERE o.owner = :owner AND s.session_id <> :session_id
    ORDER BY m.said_at DESC, m.id DESC LIMIT :most"""

_LOCK = "UPDATE memory_owners SET messages = messages WHERE owner = :owner"

_OWN_SESSIONS = """
    SELECT id FROM memory_sessions
    WHERE owner = (SELECT id FROM memory_owners WHERE owner = :owner)"""

_ERASE = (
    """UPDATE memory_owners SET
        messages = messages - (SELECT count(*) FROM memory m
                               WHERE m.owner = memory_owners.id AND m.id >> 24 IN ({sessions})),
        words = words - (SELECT coalesce(sum(m.length), 0) FROM memory m
                         WHERE m.owner = memory_owners.id AND m.id >> 24 IN ({sessions}))
    WHERE owner = :owner""",
    """DELETE FROM memory
    WHERE owner = (SELECT id FROM memory_owners WHERE owner = :owner) AND id >> 24 IN ({sessions})""",
    "DELETE FROM memory_sessions WHERE id IN ({sessions})",
)
_ERASE_EMPTY = "DELETE FROM memory_owners WHERE owner = :owner AND messages = 0"
