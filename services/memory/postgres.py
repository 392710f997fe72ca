"""The memory index in Postgres: a GIN index over a `tsvector` of hashed terms."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import asyncpg
from databases.core import Connection

from services.memory.entry import Entry, as_json
from services.memory.scoring import Corpus, Coverage, Traits, coverage
from services.memory.store import OWNED, TRAITS


class PostgresIndex:
    """A `tsvector` of ready-made terms: no text search configuration is involved."""

    ids = "= ANY(CAST(string_to_array(:ids, ',') AS bigint[]))"

    async def candidates(
        self, connection: Connection, owner: str, terms: Sequence[Sequence[str]]
    ) -> tuple[Corpus, Coverage, dict[int, Traits]]:
        """How much there is of *owner*, which of *terms* the best messages have, and what else counts of them."""
        sought = [" | ".join(f"'{token}'" for token in tokens) for tokens in terms]
        rows = await _fetch(connection, _POSTINGS, {"owner": owner, "terms": sought})
        if not rows:
            return Corpus(0, 0), Coverage((), {}), {}
        corpus = Corpus(rows[0]["messages"], rows[0]["words"])
        covered = await coverage([row["ids"] or [] for row in rows], corpus)
        values = {"owner": owner, "ids": [*covered.terms]}
        best = await self.rows(connection, f"m.id, {TRAITS}", _BEST, values)
        return corpus, covered, {id_: Traits(*columns) for id_, *columns in best}

    async def rows(
        self, connection: Connection, columns: str, source: str, values: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """*columns* of each row of *source*, hundreds of them at little cost."""
        return await _fetch(connection, f"SELECT {columns} {source}", values)

    async def insert(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Add the messages that are not there yet, and their terms to the index: all, or none."""
        await _fetch(connection, _INSERT, {"entries": as_json(entries)})


async def _fetch(
    connection: Connection, sql: str, values: Mapping[str, Any]
) -> Sequence[asyncpg.Record]:
    """Rows as asyncpg has them: `databases` compiles a statement anew each time it is run."""
    raw: asyncpg.Connection = connection.raw_connection
    numbered, names = _numbered(sql)
    rows: list[asyncpg.Record] = await raw.fetch(numbered, *(values[name] for name in names))
    return rows


@lru_cache
def _numbered(sql: str) -> tuple[str, tuple[str, ...]]:
    """*sql* with its parameters `:name` as `$1`, `$2` …, and their names in that order."""
    names = tuple(dict.fromkeys(_PARAMETER.findall(sql)))
    return _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", sql), names


_PARAMETER: Final = re.compile(r":([a-z_]+)")

_POSTINGS: Final = (
    "SELECT messages, words, ids FROM memory_postings(:owner, CAST(:terms AS text[]))"
)

_BEST: Final = f"FROM memory m WHERE m.id = ANY(:ids) AND {OWNED}"

# One statement is its own transaction. In one order in every process: two that wait for each other's
# owners would both fail.
_INSERT: Final = """
    SELECT memory_remember(owner, session_id, messages, words, entries)
    FROM (
        SELECT owner, session_id, CAST(count(*) AS integer) AS messages,
               CAST(sum(length) AS integer) AS words, json_agg(entry) AS entries
        FROM ROWS FROM (json_to_recordset(CAST(:entries AS json)) AS
            (owner text, session_id text, role text, said_at bigint, length integer,
             is_question boolean, speaker text, content text, terms text)) WITH ORDINALITY
            AS entry (owner, session_id, role, said_at, length, is_question, speaker, content,
                      terms, number)
        GROUP BY owner, session_id ORDER BY owner, session_id
    ) sessions"""
