"""How well each message answers a question: covered terms, and what stands around them.

A message's own score is the share of the question's information that it covers: the inverse
document frequencies of the terms it has, over those of all terms, times BM25's length factor
(k1 0.9, b 0.4). A message then lends part of its score to those after and before it in its session,
because an answer seldom repeats the words of its question. Neighbours have neighbouring ids. All
constants are those measured on LoCoMo (docs/memory.md).
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

CANDIDATES: Final = 300

# What a message lends to the next ones, and to the previous ones, nearest first.
_LENT: Final = ((1, 0.6), (2, 0.36), (3, 0.22), (-1, 0.4), (-2, 0.16), (-3, 0.06))
_QUESTION: Final = 0.8
_NAMED_SPEAKER: Final = 1.4
_STEEPNESS: Final = 3.25

_K1: Final = 0.9
_B: Final = 0.4
# With a handful of messages every term is rare or frequent by accident; then frequencies are read
# as if they came from this many, so that one missing word does not outweigh all others.
_LEAST_MESSAGES: Final = 300
# Weights of terms are counted in parts so small that none is 0, and added up below 2^53.
_UNIT: Final = 2**32


@dataclass(frozen=True, slots=True)
class Corpus:
    """All that is remembered of one user: so many messages, of so many words together."""

    messages: int
    words: int


@dataclass(frozen=True, slots=True)
class Traits:
    """What of a message counts besides its terms: its length in words, and how it is put.

    `speaker` are the words of the name in front of it, or nothing.
    """

    length: int
    is_question: bool
    speaker: str


def term_weights(frequencies: Iterable[int], corpus: Corpus) -> list[int]:
    """What each term of a question tells, if so many messages of *corpus* have it; more than 0.

    Whole numbers have the same sum in whichever order they are added: an index may do it.
    """
    return [round(_UNIT * _inverse_frequency(having, corpus.messages)) for having in frequencies]


def coverage(
    postings: Sequence[Sequence[int]], corpus: Corpus, *, candidates: int = CANDIDATES
) -> dict[int, float]:
    """The *candidates* messages that cover most of the question, and the share each covers, in (0, 1].

    *postings* has the ids of the messages with a term, for each of the question's terms. Of equal
    ones the newest are kept.
    """
    by_rarity = sorted(postings, key=len)
    weights = term_weights(map(len, by_rarity), corpus)
    covered: defaultdict[int, int] = defaultdict(int)
    for n, ids in enumerate(by_rarity):
        # Frequent terms come last, when a message with nothing but them may be too late to be one
        # of the best; then only those found so far are looked at.
        late = len(ids) > candidates and _least_of_best(covered, candidates) > sum(weights[n:])
        for id_ in covered.keys() & ids if late else ids:
            covered[id_] += weights[n]
    whole = sum(weights)
    # The weights are sorted first: that is quick, and of thousands of messages leaves hundreds.
    least = _least_of_best(covered, candidates)
    best = sorted(((w, id_) for id_, w in covered.items() if w >= least), reverse=True)[:candidates]
    return {id_: weight / whole for weight, id_ in best}


def in_context(
    covered: Mapping[int, float], traits: Mapping[int, Traits], corpus: Corpus
) -> dict[int, float]:
    """The score of each covered message, and of each place around one, where a message may stand.

    Messages without traits (they were erased meanwhile) lend nothing.
    """
    average = max(1.0, corpus.words / max(1, corpus.messages))
    scores: defaultdict[int, float] = defaultdict(float)
    for id_, message in traits.items():
        own = covered[id_] * (_K1 + 1) / (1 + _K1 * (1 - _B + _B * message.length / average))
        scores[id_] += own
        for distance, part in _LENT:
            scores[id_ + distance] += own * part
    return scores


def contenders(
    scores: Mapping[int, float], traits: Mapping[int, Traits], names: frozenset[str], limit: int
) -> list[int]:
    """The messages among which the best *limit* are: so few that reading them is cheap.

    The *traits* of some are known; of the others, it is only known what they can score at most.
    """
    weights = {id_: _weight(message, names) for id_, message in traits.items()}
    known = heapq.nlargest(limit, ((scores[id_] * weight, id_) for id_, weight in weights.items()))
    enough = known[-1][0] if len(known) == limit else 0.0
    highest = max(1.0, *weights.values())
    return [id_ for _, id_ in known] + [
        id_ for id_, score in scores.items() if id_ not in traits and score * highest >= enough
    ]


def rank(
    scores: Mapping[int, float],
    traits: Mapping[int, Traits],
    names: frozenset[str],
    *,
    limit: int,
) -> dict[int, float]:
    """The *limit* most relevant messages and their relevance in [0, 1], best first.

    Of equal ones the newest come first. *names* are the words of the question: what a speaker named
    there said counts more.
    """
    weighed = ((scores[id_] * _weight(message, names), id_) for id_, message in traits.items())
    return {id_: 1 - math.exp(-_STEEPNESS * score) for score, id_ in heapq.nlargest(limit, weighed)}


def _least_of_best(covered: Mapping[int, int], number: int) -> int:
    return sorted(covered.values())[-number] if len(covered) >= number else 0


def _inverse_frequency(having: int, messages: int) -> float:
    messages = max(messages, having, _LEAST_MESSAGES)
    return math.log(1 + (messages - having + 0.5) / (having + 0.5))


def _weight(message: Traits, names: frozenset[str]) -> float:
    weight = _QUESTION if message.is_question else 1.0
    if message.speaker and not names.isdisjoint(message.speaker.split()):
        weight *= _NAMED_SPEAKER
    return weight
