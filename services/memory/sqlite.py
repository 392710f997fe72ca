"""The memory index in SQLite: FTS5 over hashed terms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from databases.core import Connection

from services.memory.entry import Entry, as_json
from services.memory.scoring import Corpus


class SqliteIndex:
    """FTS5 as an inverted index; triggers keep it in step with the messages."""

    ids = "SELECT value AS id FROM json_each('[' || :ids || ']')"

    async def postings(
        self, connection: Connection, owner: str, terms: Sequence[Sequence[str]]
    ) -> tuple[Corpus, list[list[int]]]:
        """How much there is of *owner*, and the ids of the messages with any token of each of *terms*."""
        sought = [" OR ".join(f'"{token}"' for token in tokens) for tokens in terms]
        rows = await connection.fetch_all(_POSTINGS, {"owner": owner, "terms": json.dumps(sought)})
        if not rows:
            return Corpus(0, 0), []
        corpus = Corpus(rows[0]["messages"], rows[0]["words"])
        return corpus, [json.loads(f"[{row['ids'] or ''}]") for row in rows]

    async def rows(
        self, connection: Connection, columns: str, source: str, values: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """*columns* of each row of *source*, hundreds of them at little cost."""
        # As one JSON text they come at a tenth of the cost of records.
        sql = f"SELECT json_group_array(json_array({columns})) {source}"
        rows: list[list[Any]] = json.loads(await connection.fetch_val(sql, dict(values)))
        return rows

    async def insert(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Add the messages that are not there yet, and their terms to the index, as one."""
        await connection.execute(_INSERT, {"entries": as_json(entries)})


_POSTINGS = """
    SELECT o.messages, o.words,
           (SELECT group_concat(rowid) FROM memory_index WHERE memory_index MATCH term.value) AS ids
    FROM memory_owners o, json_each(:terms) term
    WHERE o.owner = :owner"""

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
