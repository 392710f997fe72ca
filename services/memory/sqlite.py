"""The memory index in SQLite: FTS5 over hashed terms."""

from __future__ import annotations

from collections.abc import Sequence

from databases.core import Connection

from services.memory.entry import Entry, as_json


class SqliteIndex:
    """FTS5 as an inverted index; triggers keep it in step with the messages."""

    ids = "SELECT value AS id FROM json_each('[' || :ids || ']')"
    rows_as_json = "json_group_array(json_array"
    postings = """
        SELECT o.messages, o.words,
               (SELECT group_concat(rowid) FROM memory_index WHERE memory_index MATCH term.value) AS ids
        FROM memory_owners o, json_each(:terms) term
        WHERE o.owner = :owner"""

    def any_of(self, tokens: Sequence[str]) -> str:
        """What matches a message with any of *tokens*."""
        return " OR ".join(f'"{token}"' for token in tokens)

    async def insert(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Add messages, and their terms to the index, as one."""
        await connection.execute(_INSERT, {"entries": as_json(entries)})


# One statement is its own transaction. Triggers on `memory_incoming` distribute the columns.
_INSERT = """
    INSERT INTO memory_incoming
    SELECT value ->> 'owner', value ->> 'session_id', value ->> 'role', value ->> 'said_at',
           value ->> 'length', value ->> 'is_question', value ->> 'speaker', value ->> 'content',
           value ->> 'terms'
    FROM json_each(:entries)"""
