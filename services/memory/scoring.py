"""How well each message answers a question: covered terms, and what stands around them.

A message scores the share of the question's information that it covers: the inverse document
frequencies of the terms it has, over those of all terms, times BM25's length factor (k1 0.9, b 0.4).
An answer seldom repeats the words of its question, so a message also has, in part, the terms of
those before and after it in its session; each term counts once, from where it stands nearest. Neighbours
have neighbouring ids. All constants are those measured on LoCoMo (docs/memory.md).
"""

from __future__ import annotations

import heapq
import math
from asyncio import sleep
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

# Of thousands of messages with the same frequent word, the newest are looked at …
CANDIDATES: Final = 500
# … and the best of those, which is to say the shortest, are found and lend.
_LENDING: Final = 300
# More than these are not read.
_READ: Final = 200

# What of a term a message lends to the next ones and to the previous ones, besides having it itself.
_LENT: Final = (
    (0, 1.0),
    (1, 0.7), (2, 0.45), (3, 0.3), (4, 0.2),
    (-1, 0.5), (-2, 0.3), (-3, 0.2),
)  # fmt: skip
# What a session is about counts in each of its messages: so much of its best one's score.
_OF_SESSION: Final = 0.2
# An id is its session's number, and in so many bits the message's in the session.
_SESSION: Final = 24
_STEEPNESS: Final = 2.8

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
    """What of a message counts besides its terms: its length in words, how it is put, and when.

    `speaker` are the words of the name in front of it, or nothing; `said_at` is in microseconds.
    """

    length: int
    is_question: bool
    speaker: str
    said_at: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """What messages have of a question: of `terms`, by id, bit *n* is set if one has its term *n*.

    `shares` are how much of the question's information each term has, in (0, 1], together 1.
    """

    shares: tuple[float, ...]
    terms: Mapping[int, int]

    def share(self, id_: int) -> float:
        """How much of the question's information a message covers."""
        return self.worth(self.terms[id_])

    def worth(self, terms: int) -> float:
        """How much of the question's information *terms* are."""
        return sum(self.shares[n] for n in _bits(terms))


def term_weights(frequencies: Iterable[int], corpus: Corpus) -> list[int]:
    """What each term of a question tells, if so many messages of *corpus* have it; more than 0.

    Whole numbers have the same sum in whichever order they are added: an index may do it.
    """
    return [round(_UNIT * _inverse_frequency(having, corpus.messages)) for having in frequencies]


async def coverage(
    postings: Sequence[Sequence[int]], corpus: Corpus, *, candidates: int = CANDIDATES
) -> Coverage:
    """The *candidates* messages that cover most of the question.

    *postings* has the ids of the messages with a term, for each of the question's terms. Of equal
    ones the newest are kept. Between frequent terms others get their turns.
    """
    weights = term_weights(map(len, postings), corpus)
    # What a message has is one sum: the weights of its terms, and below them a bit for each.
    below = len(postings)
    covered: dict[int, int] = {}
    left = sum(weights) << below
    for n in sorted(range(below), key=lambda n: len(postings[n])):
        ids: Iterable[int] = postings[n]
        if len(postings[n]) > candidates:
            await sleep(0)
            least = _least_of_best(covered, candidates) >> below << below
            await sleep(0)
            # Frequent terms come last, when a message with nothing but them may be too late to be
            # one of the best; then only those are looked at that still can be.
            if least > left:
                covered = {id_: has for id_, has in covered.items() if has + left >= least}
                ids = covered.keys() & ids
        has_it = weights[n] << below | 1 << n
        for id_ in ids:
            covered[id_] = covered.get(id_, 0) + has_it
        left -= weights[n] << below
    await sleep(0)
    least = _least_of_best(covered, candidates) >> below << below
    best = {id_: has for id_, has in covered.items() if has >= least}
    equal = sorted(id_ for id_, has in best.items() if has >> below << below == least)
    for id_ in equal[: max(0, len(best) - candidates)]:
        del best[id_]
    bits = (1 << below) - 1
    return Coverage(shares(weights), {id_: has & bits for id_, has in best.items()})


def shares(weights: Sequence[int]) -> tuple[float, ...]:
    """Of all that a question tells, the share of each term."""
    whole = sum(weights)
    return tuple(weight / whole for weight in weights)


def in_context(
    covered: Coverage, traits: Mapping[int, Traits], corpus: Corpus, *, most: int = _LENDING
) -> dict[int, float]:
    """The score of the best *most* messages, and of each place around one, where a message may stand.

    Messages without traits (they were erased meanwhile) lend nothing.
    """
    average = max(1.0, corpus.words / max(1, corpus.messages))
    factors = {
        id_: (_K1 + 1) / (1 + _K1 * (1 - _B + _B * message.length / average))
        for id_, message in traits.items()
    }
    worth = {terms: covered.worth(terms) for terms in {*covered.terms.values()}}
    own = [(worth[covered.terms[id_]] * factor, id_) for id_, factor in factors.items()]
    lending: list[list[tuple[int, float]]] = [[] for _ in covered.shares]
    for _, id_ in sorted(own, reverse=True)[:most]:
        for n in _bits(covered.terms[id_]):
            lending[n].append((id_, factors[id_]))
    scores: dict[int, float] = {}
    for share, lenders in zip(covered.shares, lending, strict=True):
        nearest: dict[int, float] = {}
        for id_, factor in lenders:
            for distance, part in _LENT:
                place, lent = id_ + distance, factor * part
                if nearest.setdefault(place, lent) < lent:
                    nearest[place] = lent
        for place, lent in nearest.items():
            scores[place] = scores.get(place, 0.0) + share * lent
    return scores


def best_of_sessions(scores: Mapping[int, float], weights: Mapping[int, float]) -> dict[int, float]:
    """What the best message of each session scores, of those whose *weights* are known."""
    best: dict[int, float] = {}
    for id_, weight in weights.items():
        session = id_ >> _SESSION
        best[session] = max(best.get(session, 0.0), scores.get(id_, 0.0) * weight)
    return best


def contenders(
    scores: Mapping[int, float],
    weights: Mapping[int, float],
    sessions: Mapping[int, float],
    *,
    limit: int,
    slack: float,
    highest: float,
) -> list[int]:
    """The messages among which the best *limit* are: so few that reading them is cheap.

    The *weights* of some are known, except for what their texts may add, *slack* times at most. The
    others have *highest* at most.
    """
    known = {id_: weight for id_, weight in weights.items() if id_ in scores}
    best = heapq.nlargest(limit, (score for score, _ in _weighed(scores, known, sessions)))
    enough = best[-1] if len(best) == limit else 0.0
    besides = _besides(sessions)
    able = []
    for id_, score in scores.items():
        most = known[id_] * slack if id_ in known else highest
        if (reached := score * most + besides.get(id_ >> _SESSION, 0.0)) >= enough:
            able.append((reached, id_))
    return [id_ for _, id_ in heapq.nlargest(_READ + limit, able)]


def rank(
    scores: Mapping[int, float],
    weights: Mapping[int, float],
    sessions: Mapping[int, float],
    *,
    limit: int,
) -> dict[int, float]:
    """The *limit* most relevant of the messages with *weights*, and their relevance in [0, 1], best first.

    Of equal ones the newest come first.
    """
    known = {id_: weight for id_, weight in weights.items() if id_ in scores}
    best = heapq.nlargest(limit, _weighed(scores, known, sessions))
    return {id_: 1 - math.exp(-_STEEPNESS * score) for score, id_ in best}


def _weighed(
    scores: Mapping[int, float], weights: Mapping[int, float], sessions: Mapping[int, float]
) -> list[tuple[float, int]]:
    besides = _besides(sessions)
    return [
        (scores[id_] * weight + besides.get(id_ >> _SESSION, 0.0), id_)
        for id_, weight in weights.items()
    ]


def _besides(sessions: Mapping[int, float]) -> dict[int, float]:
    return {session: _OF_SESSION * best for session, best in sessions.items()}


@lru_cache(maxsize=4096)
def _bits(number: int) -> tuple[int, ...]:
    """The positions of the bits that are set in *number*: few combinations of terms are frequent."""
    return tuple(n for n in range(number.bit_length()) if number >> n & 1)


def _least_of_best(covered: Mapping[int, int], number: int) -> int:
    return sorted(covered.values())[-number] if len(covered) >= number else 0


def _inverse_frequency(having: int, messages: int) -> float:
    messages = max(messages, having, _LEAST_MESSAGES)
    return math.log(1 + (messages - having + 0.5) / (having + 0.5))
