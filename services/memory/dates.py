"""Dates a question names, and how well the day on which something was said fits them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from services.storage.moments import moment_at

# People tell of a thing for some days after it happened.
_TOLD_WITHIN: Final = timedelta(days=5)
_SAME_MONTH: Final = 1.5
_SAME_DAY: Final = 2.0

_MONTHS: Final = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
    "november", "december",
)  # fmt: skip
_MONTH: Final = "|".join(_MONTHS)
_ORDINAL: Final = r"(\d{1,2})(?:st|nd|rd|th)?"
_DATE: Final = re.compile(
    rf"\b(?:{_ORDINAL}\s+(?:of\s+)?)?({_MONTH})\b(?:,?\s+{_ORDINAL}(?!\d))?(?:,?\s+(\d{{4}})\b)?"
    r"|\b(\d{4})-(\d\d)-(\d\d)\b"
)
# These are words of their own, unless something shows that the month is meant.
_AMBIGUOUS: Final = frozenset({"march", "may"})
_BEFORE_A_MONTH: Final = re.compile(
    r"\b(?:in|of|on|during|since|until|by|last|this|early|mid|late)[\s-]+$"
)


@dataclass(frozen=True, slots=True)
class NamedDate:
    """A month, perhaps with its year, its day or both."""

    month: int
    day: int | None
    year: int | None


def dates_in(question: str) -> tuple[NamedDate, ...]:
    """The dates *question* names in English (`in June`, `on 8 May 2023`), or as `2023-05-08`."""
    text = question.lower()
    dates = []
    for found in _DATE.finditer(text):
        before, month, after, year, *iso = found.groups()
        if not month:
            dates.append(NamedDate(int(iso[1]), int(iso[2]), int(iso[0])))
        elif (
            month not in _AMBIGUOUS
            or before or after or year
            or _BEFORE_A_MONTH.search(text[: found.start()])
        ):  # fmt: skip
            day = int(before or after) if before or after else None
            number = _MONTHS.index(month) + 1
            dates.append(NamedDate(number, day, int(year) if year else None))
    return tuple(dates)


def fit(said_at: int, dates: Sequence[NamedDate]) -> float:
    """How much more what was said at *said_at* counts for a question that names *dates*."""
    if not dates:
        return 1.0
    said = moment_at(said_at)
    return max(
        _SAME_DAY * _SAME_MONTH
        if (said.month, said.day) == (date.month, date.day) and date.year in (None, said.year)
        else _SAME_MONTH
        if any(
            moment.month == date.month and date.year in (None, moment.year)
            for moment in (said, said - _TOLD_WITHIN)
        )
        else 1.0
        for date in dates
    )


def most_fit(dates: Sequence[NamedDate]) -> float:
    """More than this, `fit` does not give."""
    return _SAME_DAY * _SAME_MONTH if dates else 1.0
