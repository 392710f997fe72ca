"""Memory in the service's own database, without a model: term coverage with conversation context."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext

from databases import Database
from databases.core import Connection

from services.memory import Passage
from services.memory.emphasis import emphasis
from services.memory.entry import Entry, entry
from services.memory.owner import Owner
from services.memory.postgres import PostgresIndex
from services.memory.scoring import best_of_sessions, contenders, in_context, rank
from services.memory.sqlite import SqliteIndex
from services.memory.store import Store, passages
from services.memory.terms import QueryTerms, query_terms
from services.memory.turn_key import turn_key
from services.steps import Steps, in_turns
from services.storage.dialect import dialect_of
from services.storage.migrations import migrate
from services.storage.outages import outages_translated
from services.storage.transaction import transaction
from services.turn import Role, Turn


class EmbeddedMemory:
    """A `Memory` in *database*, SQLite or Postgres, with the same results on both.

    The schema is brought up to date on first use, so any connected `Database` will do. While the
    database is away, methods raise `Unavailable`. Cancelled, they leave nothing half done.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        sqlite = dialect_of(database) == "sqlite"
        self._store = Store(SqliteIndex() if sqlite else PostgresIndex())
        # SQLite takes one writer at a time; those who wait for it there poll, and at last give up.
        self._alone = asyncio.Lock() if sqlite else nullcontext()
        self._prepared = False
        self._preparing = asyncio.Lock()

    async def prepare(self) -> None:
        """Create the tables if they are missing. Every other method does it by itself, once."""
        async with self._preparing:
            if not self._prepared:
                await migrate(self._database)
                self._prepared = True

    async def add(self, turn: Turn, answer: str) -> None:
        """Remember *turn* and its *answer*, said at `turn.asked_at`; blank texts are left out.

        A turn without a session is remembered as a session of its own. Adding the same turn again,
        because it was not known whether it is there, does not make it twice.
        """
        await self.add_all([(turn, answer)])

    async def add_all(self, said: Sequence[tuple[Turn, str]]) -> None:
        """Remember turns and their answers, see `add`: all of them, or none."""
        if entries := await in_turns(_entries(said)):
            async with self._alone, self._connected() as connection:
                await self._store.insert(connection, entries)

    async def search(
        self, user_id: str, query: str, *, limit: int, session_id: str | None = None
    ) -> Sequence[Passage]:
        """The *limit* messages of *user_id* that bear most on *query*, best first.

        A query without a topic ("What did we discuss before?") gets the newest messages of other
        sessions than *session_id*, newest first.
        """
        if limit < 1:
            return []
        owner = Owner(user_id)
        question = query_terms(query)
        async with self._connected() as connection:
            if question.terms:
                return await self._best(connection, owner, question, limit)
            newest = await self._store.newest(connection, owner, limit, outside=session_id)
            messages = await self._store.messages(connection, owner, newest)
            return passages(dict.fromkeys(newest, 1.0), messages)

    async def forget(self, user_id: str, session_id: str | None = None) -> None:
        """Erase one session of *user_id*, or everything: texts, index and counts."""
        async with self._alone, self._connected(), transaction(self._database) as connection:
            await self._store.erase(connection, Owner(user_id), session_id)

    async def _best(
        self, connection: Connection, owner: Owner, question: QueryTerms, limit: int
    ) -> list[Passage]:
        corpus, covered, traits = await self._store.candidates(connection, owner, question.terms)
        emphasized = emphasis(question, traits.values())
        scores = in_context(covered, traits, corpus)
        known = {id_: emphasized.weight(message) for id_, message in traits.items()}
        sessions = best_of_sessions(scores, known)
        ids = contenders(
            scores,
            known,
            sessions,
            limit=limit,
            slack=emphasized.highest_of_text,
            highest=emphasized.highest,
        )
        messages = await self._store.messages(connection, owner, ids)
        weights = {
            id_: emphasized.weight(said.traits) * emphasized.weight_of_text(said.content)
            for id_, said in messages.items()
        }
        return passages(rank(scores, weights, sessions, limit=limit), messages)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        with outages_translated():
            if not self._prepared:
                await self.prepare()
            # One connection for all queries of a call.
            async with self._database.connection() as connection:
                yield connection


def _entries(said: Sequence[tuple[Turn, str]]) -> Steps[list[Entry]]:
    entries: list[Entry] = []
    for turn, answer in said:
        owner = Owner(turn.user_id)
        session_id = turn.session_id or f"once-{turn_key(turn)}"
        texts: list[tuple[Role, str]] = [("user", turn.message), ("assistant", answer)]
        for role, text in texts:
            if text.strip():
                entries.append((yield from entry(owner, session_id, role, text, turn.asked_at)))
    return entries
