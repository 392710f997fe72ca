"""The memory index in SQLite: FTS5 over hashed terms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from databases.core import Connection

from services.memory.entry import Entry, as_json
from services.memory.scoring import CANDIDATES, Corpus, Coverage, Traits, shares, term_weights
from services.memory.store import OWNED, TRAITS


class SqliteIndex:
    """FTS5 as an inverted index; triggers keep it in step with the messages."""

    ids = "IN (SELECT value FROM json_each('[' || :ids || ']'))"

    async def candidates(
        self, connection: Connection, owner: str, terms: Sequence[Sequence[str]]
    ) -> tuple[Corpus, Coverage, dict[int, Traits]]:
        """How much there is of *owner*, which of *terms* the best messages have, and what else counts of them."""
        sought = [" OR ".join(f'"{token}"' for token in tokens) for tokens in terms]
        values = {"owner": owner, "terms": json.dumps(sought)}
        counted = await connection.fetch_all(_FREQUENCIES, values)
        if not counted:
            return Corpus(0, 0), Coverage((), {}), {}
        corpus = Corpus(counted[0]["messages"], counted[0]["words"])
        weights = term_weights([row["frequency"] for row in counted], corpus)
        # Added up in SQLite, because the ids of all messages with a frequent word are megabytes, and
        # each connection's thread keeps what it once needed from the system.
        weighed = json.dumps([*zip(sought, weights, strict=True)])
        heaviest = await self.rows(
            connection,
            f"m.id, best.terms, {TRAITS}",
            f"{_HEAVIEST} AND {OWNED}",
            {"owner": owner, "terms": weighed, "most": CANDIDATES},
        )
        covered = Coverage(shares(weights), {row[0]: row[1] for row in heaviest})
        return corpus, covered, {row[0]: Traits(*row[2:]) for row in heaviest}

    async def rows(
        self, connection: Connection, columns: str, source: str, values: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """*columns* of each row of *source*, hundreds of them at little cost."""
        # As one JSON text they come at a tenth of the cost of records.
        sql = f"SELECT json_group_array(json_array({columns})) {source}"
        rows: list[list[Any]] = json.loads(await connection.fetch_val(sql, dict(values)))
        return rows

    async def insert(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Add the messages that are not there yet, and their terms to the index: all, or none."""
        await connection.execute(_INSERT, {"entries": as_json(entries)})


_FREQUENCIES = """
    SELECT o.messages, o.words,
           (SELECT count(*) FROM memory_index WHERE memory_index MATCH term.value) AS frequency
    FROM memory_owners o, json_each(:terms) term
    WHERE o.owner = :owner ORDER BY term.key"""

# Grouping sorts, in as much memory as a connection's cache may have, and beyond that in a file.
# Materialized, because else each message would have its term and its weight read from JSON again.
_HEAVIEST = """
    FROM (
        WITH term AS MATERIALIZED (
            SELECT value ->> 0 AS tokens, value ->> 1 AS weight, 1 << key AS bit FROM json_each(:terms)
        )
        SELECT memory_index.rowid AS id, sum(term.bit) AS terms
        FROM term CROSS JOIN memory_index
        WHERE memory_index MATCH term.tokens
        GROUP BY memory_index.rowid ORDER BY sum(term.weight) DESC, 1 DESC LIMIT :most
    ) best CROSS JOIN memory m
    WHERE m.id = best.id"""

# One statement is its own transaction. Triggers on `memory_incoming` distribute the columns. What
# somebody said in a session at one microsecond is the same text, or written again.
_INSERT = """
    INSERT INTO memory_incoming
    SELECT value ->> 'owner', value ->> 'session_id', value ->> 'role', value ->> 'said_at',
           value ->> 'length', value ->> 'is_question', value ->> 'speaker', value ->> 'content',
           value ->> 'terms'
    FROM json_each(:entries)
    WHERE NOT EXISTS (
        SELECT 1 FROM memory_owners o CROSS JOIN memory_sessions s CROSS JOIN memory m
        WHERE o.owner = value ->> 'owner'
          AND s.owner = o.id AND s.session_id = value ->> 'session_id'
          AND m.owner = o.id AND m.said_at = value ->> 'said_at' AND m.id >> 24 = s.id
          AND m.role = value ->> 'role' AND m.content = value ->> 'content')"""
