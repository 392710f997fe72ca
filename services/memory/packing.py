"""Packing: passages as lines of a prompt, as many as a budget of tokens holds."""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain, zip_longest
from time import perf_counter
from typing import Final, TypeAlias

from services.memory import Passage
from services.memory.clipping import clip
from services.memory.quoting import CLOSING, OPENING, framed, line
from services.memory.terms import query_terms
from services.turn import Role

# What orders the lines: when, where, and the question before its answer.
_Order: TypeAlias = tuple[datetime, str, int]
_ROLES: Final[tuple[Role, ...]] = ("user", "assistant")

# Clipping takes a third of a microsecond a character, and every stream waits meanwhile. No question
# is longer than 4,000 characters, and few answers are; of what is longer, the beginning is looked at.
_MOST_CHARACTERS: Final = 6000
# After so many seconds the streams have their turn.
_SLICE: Final = 0.001
# So many neighbours that do not fit are tried: what is left then is a line's worth at most.
_MISSES: Final = 3


async def pack(
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
    block, the oldest line is first. *count* gives the tokens of a text. Long texts take a while, in
    which others get their turns.
    """
    packing = _Packing(question, sentences, budget, count)
    packed = 0
    for passage in results:
        if packing.full:
            break
        if passage.text not in known:
            packed += await packing.take(passage)
    misses = 0
    # The nearest neighbours of all results before the second nearest of any.
    for neighbour in chain.from_iterable(zip_longest(*(passage.around for passage in results))):
        if packing.full or misses == _MISSES:
            break
        if neighbour is None or neighbour.text in known or packing.has(neighbour):
            continue
        misses += not await packing.take(neighbour)
    return packing.text(), packed


class _Packing:
    """Lines that take passages while there is room."""

    def __init__(
        self, question: str, sentences: int, budget: int, count: Callable[[str], int]
    ) -> None:
        self._asked = frozenset().union(*query_terms(question).terms)
        self._sentences = sentences
        self._count = count
        self._left = budget - count(OPENING + CLOSING)
        self._lines: dict[tuple[_Order, str], str] = {}
        self._since = perf_counter()

    @property
    def full(self) -> bool:
        """Whether not even a line without a word would fit."""
        return self._left < self._least

    @cached_property
    def _least(self) -> int:
        return self._count(line("", "user", datetime.min.replace(tzinfo=UTC)))

    def has(self, passage: Passage) -> bool:
        """Whether *passage* was taken."""
        return (_order(passage), passage.text) in self._lines

    async def take(self, passage: Passage) -> bool:
        """Whether *passage* is new and fits."""
        if self.has(passage):
            return False
        if perf_counter() - self._since > _SLICE:
            await sleep(0)
            self._since = perf_counter()
        clipped = clip(passage.text[:_MOST_CHARACTERS], self._asked, sentences=self._sentences)
        text = line(clipped, passage.role, passage.said_at)
        tokens = self._count(text)
        if tokens > self._left:
            return False
        self._left -= tokens
        self._lines[(_order(passage), passage.text)] = text
        return True

    def text(self) -> str:
        """The lines in their frame, the oldest first."""
        return framed(
            text for _, text in sorted(self._lines.items(), key=lambda entry: entry[0][0])
        )


def _order(passage: Passage) -> _Order:
    return passage.said_at, passage.session_id, _ROLES.index(passage.role)
