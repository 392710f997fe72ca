"""What is remembered of a user across sessions, and how it is searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from services.turn import Role, Turn


@dataclass(frozen=True, slots=True)
class Passage:
    """Something said earlier that bears on a question; `relevance` is in [0, 1].

    `around` is what was said just before and after it in its session, nearest first, as far as the
    memory can tell.
    """

    text: str
    role: Role
    session_id: str
    said_at: datetime
    relevance: float
    around: tuple[Passage, ...] = ()


class Memory(Protocol):
    """Everything one user said and was told, searchable by meaning of a question."""

    async def search(
        self, user_id: str, query: str, *, limit: int, session_id: str | None = None
    ) -> Sequence[Passage]:
        """The *limit* most relevant passages of *user_id*'s own conversations, best first.

        *session_id* is where the question is asked: what was discussed "before" is elsewhere.
        """
        ...

    async def add(self, turn: Turn, answer: str) -> None:
        """Remember *turn* and its *answer*; the same again changes nothing."""
        ...

    async def forget(self, user_id: str, session_id: str | None = None) -> None:
        """Erase one session of *user_id*, or everything."""
        ...


@runtime_checkable
class BulkMemory(Memory, Protocol):
    """A memory that is quicker with many turns at once."""

    async def add_all(self, said: Sequence[tuple[Turn, str]]) -> None:
        """Remember turns and their answers: all of them, or none if it raises.

        If an outage left open which of both it was, it is asked again.
        """
        ...
