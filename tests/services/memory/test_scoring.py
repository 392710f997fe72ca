from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.memory import scoring
from services.memory.scoring import (
    Corpus,
    Coverage,
    Traits,
    best_of_sessions,
    contenders,
    in_context,
    rank,
    term_weights,
)

PLAIN = Traits(length=10, is_question=False, speaker="", said_at=0)
LONG = Traits(length=100, is_question=False, speaker="", said_at=0)
CORPUS = Corpus(messages=1000, words=10_000)


def coverage(
    postings: Sequence[Sequence[int]], corpus: Corpus, candidates: int = scoring.CANDIDATES
) -> Coverage:
    return asyncio.run(scoring.coverage(postings, corpus, candidates=candidates))


def _shares(covered: Coverage) -> dict[int, float]:
    return {id_: covered.share(id_) for id_ in covered.terms}


def test_a_message_with_all_terms_is_covered_whole() -> None:
    covered = _shares(coverage([[1, 2], [2]], CORPUS))

    assert covered[2] == 1.0
    assert 0 < covered[1] < 0.5


def test_a_rare_term_weighs_more_than_a_frequent_one() -> None:
    assert coverage([[1], list(range(2, 500))], CORPUS).share(1) > 0.85


def test_a_term_that_nobody_has_counts_against_everything() -> None:
    assert coverage([[1], []], CORPUS).share(1) < 0.5


def test_even_a_term_that_everything_has_weighs_something() -> None:
    """A question of nothing else would be divided by 0."""
    assert term_weights([10_000_000], Corpus(10_000_000, 100_000_000)) > [0]


def test_a_message_lends_its_terms_to_those_around_it() -> None:
    scores = in_context(Coverage((1.0,), {10: 1}), {10: PLAIN}, CORPUS)

    assert scores == pytest.approx(
        {7: 0.2, 8: 0.3, 9: 0.5, 10: 1.0, 11: 0.7, 12: 0.45, 13: 0.3, 14: 0.2}
    )


def test_a_term_counts_once_from_where_it_stands_nearest() -> None:
    """One that is said again and again does not outweigh another that was asked for as well."""
    covered = Coverage((0.5, 0.5), {10: 0b01, 11: 0b01, 12: 0b10})

    scores = in_context(covered, dict.fromkeys(covered.terms, PLAIN), CORPUS)

    assert scores[11] == pytest.approx(0.5 + 0.5 * 0.5)
    assert scores[12] == pytest.approx(0.5 * 0.7 + 0.5)
    assert scores[13] == pytest.approx(0.5 * 0.45 + 0.5 * 0.7)


def test_a_short_message_scores_more_than_a_long_one() -> None:
    covered = Coverage((1.0,), {10: 1, 20: 1})

    scores = in_context(covered, {10: PLAIN, 20: LONG}, CORPUS)

    assert scores[10] > scores[20]


def test_of_many_messages_with_a_term_the_short_ones_are_found() -> None:
    """Only the newest 300 were looked at, whatever their length."""
    ids = range(10, 4510, 10)
    covered = coverage([list(ids)], CORPUS)
    traits = {id_: PLAIN if id_ == 10 else LONG for id_ in covered.terms}

    scores = in_context(covered, traits, CORPUS)

    assert next(iter(rank(scores, dict.fromkeys(traits, 1.0), {}, limit=1))) == 10


def test_relevance_of_a_covered_message_is_what_was_measured() -> None:
    """1 - exp(-2.8 s), for s = 1."""
    assert rank({10: 1.0}, {10: 1.0}, {}, limit=1) == pytest.approx({10: 0.9392}, abs=1e-4)


def test_what_a_session_is_about_counts_in_each_of_its_messages() -> None:
    here, there = 1 << 24, 2 << 24
    scores = {here + 1: 0.9, here + 9: 0.2, there + 1: 0.3}
    weights = dict.fromkeys(scores, 1.0)

    ranked = rank(scores, weights, best_of_sessions(scores, weights), limit=3)

    assert list(ranked) == [here + 1, here + 9, there + 1]


postings = st.lists(st.lists(st.integers(1, 60), unique=True), min_size=1, max_size=5)


@given(postings)
def test_terms_that_come_too_late_change_nothing_among_the_best(found: list[list[int]]) -> None:
    few = 5
    whole = _shares(coverage(found, CORPUS))

    some = _shares(coverage(found, CORPUS, candidates=few))

    assert some == {id_: whole[id_] for id_ in some}
    assert sorted(some.values()) == pytest.approx(sorted(whole.values())[-few:])


@given(
    st.dictionaries(st.integers(1, 40), st.floats(0.01, 1), min_size=1),
    st.dictionaries(st.integers(1, 60), st.floats(0.1, 1)),
    st.sets(st.integers(1, 60)),
    st.integers(1, 10),
)
def test_the_best_are_always_among_the_contenders(
    covered: dict[int, float], rare: dict[int, float], told: set[int], limit: int
) -> None:
    known = {id_: rare.get(id_, 1.0) for id_ in covered}
    scores = dict.fromkeys(range(1, 61), 0.05) | covered
    everything = {id_: rare.get(id_, 1.0) * (1.3 if id_ in told else 1.0) for id_ in scores}
    sessions = best_of_sessions(scores, known)

    few = contenders(scores, known, sessions, limit=limit, slack=1.3, highest=1.3)

    some = {id_: everything[id_] for id_ in few}
    assert rank(scores, some, sessions, limit=limit) == rank(
        scores, everything, sessions, limit=limit
    )
