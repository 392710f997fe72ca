from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.memory import scoring
from services.memory.scoring import (
    Corpus,
    Traits,
    contenders,
    coverage,
    in_context,
    rank,
    term_weights,
)

NOBODY: frozenset[str] = frozenset()
PLAIN = Traits(length=10, is_question=False, speaker="")
CORPUS = Corpus(messages=1000, words=10_000)


def test_a_message_with_all_terms_is_covered_whole() -> None:
    covered = coverage([[1, 2], [2]], CORPUS)

    assert covered[2] == 1.0
    assert 0 < covered[1] < 0.5


def test_a_rare_term_weighs_more_than_a_frequent_one() -> None:
    covered = coverage([[1], list(range(2, 500))], CORPUS)

    assert covered[1] > 0.85


def test_a_term_that_nobody_has_counts_against_everything() -> None:
    assert coverage([[1], []], CORPUS)[1] < 0.5


def test_even_a_term_that_everything_has_weighs_something() -> None:
    """A question of nothing else would be divided by 0."""
    assert term_weights([10_000_000], Corpus(10_000_000, 100_000_000)) > [0]


def test_a_message_lends_to_those_around_it() -> None:
    scores = in_context({10: 1.0}, {10: PLAIN}, CORPUS)

    assert scores == pytest.approx({7: 0.06, 8: 0.16, 9: 0.4, 10: 1.0, 11: 0.6, 12: 0.36, 13: 0.22})


def test_a_short_message_scores_more_than_a_long_one() -> None:
    long = Traits(length=100, is_question=False, speaker="")

    scores = in_context({10: 1.0, 20: 1.0}, {10: PLAIN, 20: long}, CORPUS)

    assert scores[10] > scores[20]


def test_relevance_of_a_covered_message_is_what_was_measured() -> None:
    """1 - exp(-3.25 s), for s = 1."""
    assert rank({10: 1.0}, {10: PLAIN}, NOBODY, limit=1) == pytest.approx({10: 0.9612}, abs=1e-4)


def test_questions_weigh_less_and_named_speakers_more() -> None:
    traits = {
        1: PLAIN,
        2: Traits(length=10, is_question=True, speaker=""),
        3: Traits(length=10, is_question=False, speaker="melanie"),
    }

    ranked = rank(dict.fromkeys(traits, 0.5), traits, frozenset({"melanie"}), limit=3)

    assert list(ranked) == [3, 1, 2]


postings = st.lists(st.lists(st.integers(1, 60), unique=True), min_size=1, max_size=5)


@given(postings)
def test_terms_that_come_too_late_change_nothing_among_the_best(found: list[list[int]]) -> None:
    few = 5
    whole = scoring.coverage(found, CORPUS)

    best = sorted(whole.items(), key=lambda item: (item[1], item[0]), reverse=True)[:few]

    assert scoring.coverage(found, CORPUS, candidates=few) == pytest.approx(dict(best))


@given(
    st.dictionaries(st.integers(1, 40), st.floats(0.01, 1), min_size=1),
    st.sets(st.integers(1, 60)),
    st.sets(st.integers(1, 60)),
    st.integers(1, 10),
)
def test_the_best_are_always_among_the_contenders(
    covered: dict[int, float], questions: set[int], named: set[int], limit: int
) -> None:
    names = frozenset({"melanie"})

    def traits(id_: int) -> Traits:
        # Only a message that has the name as a term can be by the one who is named.
        speaker = "melanie" if id_ in named and id_ in covered else ""
        return Traits(10, id_ in questions, speaker)

    known = {id_: traits(id_) for id_ in covered}
    scores = in_context(covered, known, CORPUS)
    everything = {id_: traits(id_) for id_ in scores}

    some = {id_: everything[id_] for id_ in contenders(scores, known, names, limit)}

    assert rank(scores, some, names, limit=limit) == rank(scores, everything, names, limit=limit)
