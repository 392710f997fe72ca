"""Turns for tests of memory."""

from __future__ import annotations

from datetime import UTC, datetime

from services.turn import Turn

MAY = datetime(2026, 5, 8, 13, 56, 0, 123456, tzinfo=UTC)


def turn(
    message: str,
    *,
    user: str = "alice",
    session: str | None = "session-1",
    at: datetime = MAY,
    request: str = "req_1",
) -> Turn:
    return Turn(request, user, message, session_id=session, asked_at=at)
