"""The key of a turn: the same in whichever attempt to remember it."""

from __future__ import annotations

from hashlib import blake2b
from uuid import UUID

from services.turn import Turn


def turn_key(turn: Turn) -> str:
    """A UUID that *turn* has in common with no other turn."""
    facts = (turn.user_id, turn.session_id, turn.request_id, turn.asked_at, turn.message)
    digest = blake2b(repr(facts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return str(UUID(bytes=digest, version=4))
