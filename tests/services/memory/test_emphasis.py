from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.memory.dates import NamedDate, dates_in, fit
from services.memory.emphasis import emphasis
from services.memory.scoring import Traits
from services.memory.terms import query_terms
from services.storage.moments import microseconds


def _at(year: int, month: int, day: int) -> int:
    return microseconds(datetime(year, month, day, 12, tzinfo=UTC))


def _said(speaker: str = "", *, question: bool = False, at: int = 0) -> Traits:
    return Traits(length=10, is_question=question, speaker=speaker, said_at=at)


def test_questions_weigh_less() -> None:
    plain = emphasis(query_terms("the garden"), [])

    assert (plain.weight(_said(question=True)), plain.weight(_said())) == (0.8, 1.0)


def test_of_the_speakers_named_the_first_counts_more() -> None:
    """ "What did Melanie say to Caroline?" is about Melanie."""
    spoken = [_said("caroline"), _said("melanie"), _said("ann")]

    asked = emphasis(query_terms("What did Melanie say to Caroline?"), spoken)

    assert [asked.weight(each) for each in spoken] == [0.86, 1.2, 0.86]


def test_what_the_named_speaker_asks_counts_no_more_than_any_question() -> None:
    asked = emphasis(query_terms("What did Melanie paint?"), [_said("melanie")])

    assert (
        asked.weight(_said("melanie", question=True)) == asked.weight(_said(question=True)) == 0.8
    )


def test_who_is_asked_when_gets_what_tells_a_time() -> None:
    asked = emphasis(query_terms("When did she paint?"), [])

    assert asked.weight_of_text("Yesterday I painted") == 1.3
    assert asked.weight_of_text("I painted") == 1.0
    assert emphasis(query_terms("What did she paint?"), []).weight_of_text("Yesterday") == 1.0


DATES = [
    ("What happened in June?", [NamedDate(6, None, None)]),
    ("Who came on 8 May 2023?", [NamedDate(5, 8, 2023)]),
    ("Who came on May 8th, 2023?", [NamedDate(5, 8, 2023)]),
    ("Who came on the 3rd of October", [NamedDate(10, 3, None)]),
    ("between March 2022 and April", [NamedDate(3, None, 2022), NamedDate(4, None, None)]),
    ("notes of 2023-05-08", [NamedDate(5, 8, 2023)]),
    ("Did we march in mid-May?", [NamedDate(5, None, None)]),
    ("What may I eat?", []),
    ("How did the march go?", []),
    ("in 2023", []),
]


@pytest.mark.parametrize(("question", "dates"), DATES)
def test_dates_are_understood(question: str, dates: list[NamedDate]) -> None:
    assert list(dates_in(question)) == dates


@pytest.mark.parametrize(
    ("said", "times"),
    [
        (_at(2023, 5, 8), 3.0),
        (_at(2023, 5, 20), 1.5),
        (_at(2023, 6, 3), 1.5),
        (_at(2023, 6, 20), 1.0),
        (_at(2022, 5, 8), 1.0),
    ],
)
def test_what_was_said_on_a_day_that_is_named_counts_more(said: int, times: float) -> None:
    """And so does what was said in its month, or just after: people tell of things later."""
    assert fit(said, [NamedDate(5, 8, 2023)]) == times


def test_a_date_that_does_not_exist_fits_nothing() -> None:
    assert fit(_at(2023, 2, 28), dates_in("on 2023-02-30, on 2023-13-01 and on May 99")) <= 1.5
