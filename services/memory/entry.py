"""One remembered message as it goes into the index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from services.memory.owner import Owner
from services.memory.terms import index_terms, speaker_of
from services.steps import Steps, portions
from services.storage.moments import microseconds
from services.storage.storable import storable
from services.turn import Role

# Hashing so many terms takes some 0.1 ms.
_PORTION: Final = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """A message in the columns of table `memory`, with its hashed terms separated by spaces."""

    owner: str
    session_id: str
    role: Role
    said_at: int
    length: int
    is_question: bool
    speaker: str
    content: str
    terms: str


def entry(owner: Owner, session_id: str, role: Role, text: str, said_at: datetime) -> Steps[Entry]:
    """What *text* is remembered as."""
    text = storable(text)
    indexed = yield from index_terms(text)
    tokens: list[str] = []
    for portion in portions(indexed.terms, _PORTION):
        tokens += owner.tokens(portion)
        yield
    return Entry(
        owner=owner.id,
        session_id=storable(session_id),
        role=role,
        said_at=microseconds(said_at),
        length=indexed.length,
        is_question=text.rstrip().endswith(("?", "？", "؟")),
        speaker=" ".join(sorted(speaker_of(text))),
        content=text,
        terms=" ".join(sorted(tokens)),
    )


def as_json(entries: Sequence[Entry]) -> str:
    """*entries* as one parameter of a statement: a JSON array of objects."""
    return msgspec.json.encode(entries).decode()
