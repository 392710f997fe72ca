"""The memory index in Postgres: a GIN index over a `tsvector` of hashed terms."""

from __future__ import annotations

from collections.abc import Sequence

from databases.core import Connection

from services.memory.entry import Entry, as_json


class PostgresIndex:
    """A `tsvector` of ready-made terms: no text search configuration is involved."""

    ids = "SELECT unnest(CAST(string_to_array(:ids, ',') AS bigint[])) AS id"
    rows_as_json = "json_agg(json_build_array"
    postings = """
        SELECT o.messages, o.words,
               (SELECT string_agg(CAST(id AS text), ',') FROM memory
                WHERE terms @@ CAST(term AS tsquery)) AS ids
        FROM memory_owners o, json_array_elements_text(CAST(:terms AS json)) term
        WHERE o.owner = :owner"""

    def any_of(self, tokens: Sequence[str]) -> str:
        """What matches a message with any of *tokens*."""
        return " | ".join(f"'{token}'" for token in tokens)

    async def insert(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Add messages, and their terms to the index, as one."""
        await connection.execute(_INSERT, {
            "owner": entries[0].owner,
            "session_id": entries[0].session_id,
            "messages": len(entries),
            "words": sum(entry.length for entry in entries),
            "entries": as_json(entries),
        })  # fmt: skip


# The first insert's row lock makes one owner's writes wait for each other, and what it returns is
# true after the wait; a number counted by a query of this statement would not be.
_INSERT = """
    WITH owned AS (
        INSERT INTO memory_owners (owner, messages, words) VALUES (:owner, :messages, :words)
        ON CONFLICT (owner) DO UPDATE SET messages = memory_owners.messages + excluded.messages,
                                          words = memory_owners.words + excluded.words
        RETURNING id
    ), session AS (
        INSERT INTO memory_sessions (owner, session_id, messages)
        SELECT id, :session_id, :messages FROM owned
        ON CONFLICT (owner, session_id)
        DO UPDATE SET messages = memory_sessions.messages + excluded.messages
        RETURNING id, owner, messages
    )
    INSERT INTO memory (id, owner, length, is_question, role, said_at, speaker, content, terms)
    SELECT (s.id << 24) | (s.messages - :messages + e.number), s.owner, e.length, e.is_question,
           e.role, e.said_at, e.speaker, e.content, array_to_tsvector(string_to_array(e.terms, ' '))
    FROM session s, json_to_recordset(CAST(:entries AS json)) AS e (
        number integer, role text, said_at bigint, length integer, is_question boolean,
        speaker text, content text, terms text)"""
