"""Packing: passages as lines of a prompt, as many as a budget of tokens holds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from itertools import chain, zip_longest
from typing import Final, TypeAlias

from services.memory import Passage
from services.memory.clipping import clip
from services.memory.quoting import CLOSING, OPENING, framed, line
from services.memory.terms import query_terms
from services.turn import Role

# What orders the lines: when, where, and the question before its answer.
_Order: TypeAlias = tuple[datetime, str, int]
_ROLES: Final[tuple[Role, ...]] = ("user", "assistant")


def pack(
    results: Sequence[Passage],
    question: str,
    *,
    known: Collection[str],
    sentences: int,
    budget: int,
    count: Callable[[str], int],
) -> tuple[str, int]:
    """A block of text of at most *budget* tokens, and how many of *results* are in it.

    Best results first, each clipped to *sentences*; what does not fit is passed over. While budget
    remains, what was said around them follows, nearest first. Texts in *known* are left out. In the
    block, the oldest line is first. *count* gives the tokens of a text.
    """
    asked = frozenset().union(*query_terms(question).terms)
    left = budget - count(OPENING + CLOSING)
    lines: list[tuple[_Order, str]] = []
    taken: set[tuple[_Order, str]] = set()

    def take(passage: Passage) -> bool:
        nonlocal left
        order = (passage.said_at, passage.session_id, _ROLES.index(passage.role))
        if passage.text in known or (order, passage.text) in taken:
            return False
        text = line(clip(passage.text, asked, sentences=sentences), passage.role, passage.said_at)
        tokens = count(text)
        if tokens > left:
            return False
        left -= tokens
        taken.add((order, passage.text))
        lines.append((order, text))
        return True

    packed = sum(take(passage) for passage in results)
    # The nearest neighbours of all results before the second nearest of any.
    rings = zip_longest(*(passage.around for passage in results))
    for neighbour in chain.from_iterable(rings):
        if neighbour is not None:
            take(neighbour)
    lines.sort(key=lambda entry: entry[0])
    return framed(text for _, text in lines), packed
