"""Finished turns for tests of conversations."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from services.events import FinishReason
from services.storage.conversations import FinishedTurn
from services.turn import Turn

NOON = datetime(2026, 5, 8, 12, 0, 0, 250, tzinfo=UTC)
_ids = itertools.count(1)


def asked(
    message: str, *, user: str = "alice", session: str | None = "session-a", minute: int = 0
) -> Turn:
    at = NOON + timedelta(minutes=minute)
    return Turn("req_1", user, message, session_id=session, asked_at=at)


def finished(
    message: str,
    answer: str = "ok",
    *,
    user: str = "alice",
    session: str | None = "session-a",
    minute: int = 0,
    reason: FinishReason = "stop",
) -> FinishedTurn:
    turn = asked(message, user=user, session=session, minute=minute)
    return FinishedTurn(f"turn-{next(_ids)}", turn, answer, reason)
