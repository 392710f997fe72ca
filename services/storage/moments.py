"""Moments as whole microseconds since 1970 (UTC): one number that every database keeps exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def microseconds(moment: datetime) -> int:
    """*moment* as a number; one without a time zone is taken as UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND


def moment_at(number: int) -> datetime:
    """The moment, in UTC, that *number* stands for."""
    return _EPOCH + _MICROSECOND * number
