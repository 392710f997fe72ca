"""Conversations: every finished turn, as it was said, for its user alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from databases import Database

from services.events import FinishReason
from services.steps import Steps, in_turns
from services.storage.dialect import dialect_of
from services.storage.history import PER_MESSAGE, Said, history
from services.storage.moments import microseconds, moment_at
from services.storage.outages import outages_translated
from services.storage.paging import Key, Page, decode_cursor, page_of
from services.storage.storable import storable
from services.tokens import count_in_steps
from services.turn import Message, Role, Turn

# What a page has of a message besides its text, in bytes.
_AROUND: Final = 200
# A prompt never needs more, whatever its budget.
_MOST_RECENT: Final = 400


@dataclass(frozen=True, slots=True)
class FinishedTurn:
    """A turn and its answer as far as it came; `id` tells it from every other turn."""

    id: str
    turn: Turn
    answer: str
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message of a conversation; only answers have a finish reason.

    `tokens` are those of its text. What a provider bills has those of its reasoning too, which no
    prompt ever holds.
    """

    id: int
    role: Role
    content: str
    tokens: int
    said_at: datetime
    finish_reason: FinishReason | None


@dataclass(frozen=True, slots=True)
class Session:
    """One conversation: when it began, when something was last said, how many messages it has."""

    id: str
    started_at: datetime
    active_at: datetime
    messages: int


class Conversations:
    """Stored turns in *database*, whose schema is up to date. *count* gives the tokens of a text.

    Every method sees what belongs to its *user_id* and nothing else, and raises `Unavailable` while
    the database is away.
    """

    def __init__(self, database: Database, *, count: Callable[[str], int]) -> None:
        self._database = database
        self._count = count

    async def add(self, *finished: FinishedTurn) -> None:
        """Store turns: all their messages or none; what is there already stays as it is."""
        messages = await in_turns(self._messages_of(finished))
        text = msgspec.json.encode(messages).decode()
        await self._execute(_ADD[dialect_of(self._database)], {"messages": text})

    async def recent(self, user_id: str, session_id: str, *, budget: int) -> list[Message]:
        """The latest messages of a session that fit into *budget* tokens, oldest first.

        The first one is the user's, and what was said last is always there, clipped if it has to
        be. Answers of which nothing was said are left out.
        """
        values = {
            "user_id": user_id,
            "session_id": session_id,
            "budget": budget,
            "wrapping": PER_MESSAGE,
            "most": _MOST_RECENT,
        }
        rows = await self._fetch(_RECENT, values)
        said = [
            Said(row["turn_id"], Message(row["role"], row["content"]), row["tokens"])
            for row in rows
        ]
        return history(said, budget=budget, count=self._count)

    async def sessions(
        self, user_id: str, *, limit: int, cursor: str | None = None
    ) -> Page[Session]:
        """The user's sessions, last active first. Raises `ValidationFailed` for a bad *cursor*."""
        active_at, session_id = decode_cursor(cursor) if cursor else _NEWEST
        values = {
            "user_id": user_id,
            "active_at": active_at,
            "session_id": session_id,
            "most": limit + 1,
        }
        rows = await self._fetch(_SESSIONS, values)
        return page_of([_session(row) for row in rows], limit, _session_key)

    async def messages(
        self, user_id: str, session_id: str, *, limit: int, cursor: str | None = None
    ) -> Page[StoredMessage]:
        """The messages of a session, newest first; none if it is not the user's.

        A page of long ones has fewer than *limit*. Raises `ValidationFailed` for a bad *cursor*.
        """
        below, _ = decode_cursor(cursor) if cursor else _NEWEST
        values = {
            "user_id": user_id,
            "session_id": session_id,
            "below": below,
            "most": limit + 1,
        }
        rows = await self._fetch(_MESSAGES, values)
        return page_of([_stored(row) for row in rows], limit, _message_key, _message_size)

    async def delete(self, user_id: str, session_id: str | None = None) -> bool:
        """Erase a session, or everything of the user, turns without a session too.

        Whether there was anything.
        """
        values = {"user_id": user_id}
        if session_id is None:
            found, erase = _FIND_ALL, _DELETE_ALL
        else:
            found, erase = _FIND_SESSION, _DELETE_SESSION
            values["session_id"] = session_id
        there = await self._fetch(found, values)
        await self._execute(erase, values)
        return bool(there)

    def _messages_of(self, finished: Sequence[FinishedTurn]) -> Steps[list[dict[str, Any]]]:
        messages = []
        for each in finished:
            turn = each.turn
            said: tuple[tuple[Role, str, FinishReason | None], ...] = (
                ("user", storable(turn.message), None),
                ("assistant", storable(each.answer), each.finish_reason),
            )
            for role, content, finish_reason in said:
                tokens = yield from count_in_steps(self._count, content)
                messages.append(
                    {
                        "user_id": turn.user_id,
                        "session_id": turn.session_id,
                        "turn_id": each.id,
                        "role": role,
                        "content": content,
                        "tokens": tokens,
                        "said_at": microseconds(turn.asked_at),
                        "finish_reason": finish_reason,
                    }
                )
        return messages

    async def _execute(self, sql: str, values: dict[str, Any]) -> None:
        with outages_translated():
            await self._database.execute(sql, values)

    async def _fetch(self, sql: str, values: dict[str, Any]) -> list[Any]:
        with outages_translated():
            return await self._database.fetch_all(sql, values)


def _session(row: Any) -> Session:
    return Session(
        row["session_id"],
        moment_at(row["started_at"]),
        moment_at(row["active_at"]),
        row["messages"],
    )


def _stored(row: Any) -> StoredMessage:
    return StoredMessage(
        row["id"],
        row["role"],
        row["content"],
        row["tokens"],
        moment_at(row["said_at"]),
        row["finish_reason"],
    )


def _session_key(session: Session) -> Key:
    return microseconds(session.active_at), session.id


def _message_key(message: StoredMessage) -> Key:
    return message.id, ""


def _message_size(message: StoredMessage) -> int:
    return len(json.dumps(message.content, ensure_ascii=False).encode()) + _AROUND


# Above every key there is.
_NEWEST: Final[Key] = (2**63 - 1, "")

# One statement with one argument, whatever the number of turns, in the order of the list.
_ADD: Final = {
    "sqlite": """
        INSERT INTO messages
            (user_id, session_id, turn_id, role, content, tokens, said_at, finish_reason)
        SELECT value ->> 'user_id', value ->> 'session_id', value ->> 'turn_id', value ->> 'role',
               value ->> 'content', value ->> 'tokens', value ->> 'said_at',
               value ->> 'finish_reason'
        FROM json_each(:messages) WHERE true ORDER BY key
        ON CONFLICT (turn_id, role) DO NOTHING""",
    "postgres": """
        INSERT INTO messages
            (user_id, session_id, turn_id, role, content, tokens, said_at, finish_reason)
        SELECT user_id, session_id, turn_id, role, content, tokens, said_at, finish_reason
        FROM ROWS FROM (json_to_recordset(CAST(:messages AS json)) AS
            (user_id text, session_id text, turn_id text, role text, content text,
             tokens integer, said_at bigint, finish_reason text)) WITH ORDINALITY
            AS message (user_id, session_id, turn_id, role, content, tokens, said_at,
                        finish_reason, number)
        ORDER BY number
        ON CONFLICT (turn_id, role) DO NOTHING""",
}

# What is said before a turn that fills the budget does not matter. That turn does, with both of its
# messages: so the sum leaves out a message and the one after it.
_RECENT: Final = """
    SELECT turn_id, role, content, tokens FROM (
        SELECT id, turn_id, role, content, tokens, sum(tokens + :wrapping) OVER (
            ORDER BY id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING
        ) AS later
        FROM (
            SELECT id, turn_id, role, content, tokens FROM messages
            WHERE user_id = :user_id AND session_id = :session_id AND content <> ''
            ORDER BY id DESC LIMIT :most
        ) latest
    ) bounded
    WHERE coalesce(later, 0) < :budget ORDER BY id DESC"""

_SESSIONS: Final = """
    SELECT session_id, min(said_at) AS started_at, max(said_at) AS active_at, count(*) AS messages
    FROM messages WHERE user_id = :user_id AND session_id IS NOT NULL
    GROUP BY session_id
    HAVING max(said_at) < :active_at OR (max(said_at) = :active_at AND session_id < :session_id)
    ORDER BY active_at DESC, session_id DESC LIMIT :most"""

_MESSAGES: Final = """
    SELECT id, role, content, tokens, said_at, finish_reason FROM messages
    WHERE user_id = :user_id AND session_id = :session_id AND id < :below
    ORDER BY id DESC LIMIT :most"""

_FIND_ALL: Final = "SELECT 1 FROM messages WHERE user_id = :user_id LIMIT 1"
_FIND_SESSION: Final = (
    "SELECT 1 FROM messages WHERE user_id = :user_id AND session_id = :session_id LIMIT 1"
)
_DELETE_ALL: Final = "DELETE FROM messages WHERE user_id = :user_id"
_DELETE_SESSION: Final = (
    "DELETE FROM messages WHERE user_id = :user_id AND session_id = :session_id"
)
