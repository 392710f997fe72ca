"""Clipping: of a long text, the sentences that bear most on a question."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from itertools import pairwise
from typing import Final

from services.memory.terms import words

# "Yes. In June." says little; a short sentence is kept together with the next.
_SHORT: Final = 60
# A text without punctuation is one sentence, and must be clipped too.
_LONGEST: Final = 600
_GAP: Final = " … "

_END: Final = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])|\n\s*")


def clip(text: str, question: AbstractSet[str], *, sentences: int) -> str:
    """The best *sentences* of *text*, in its order, with `…` where some are missing.

    The best share most words with *question*, the stems of its topics; of equal ones the first. A sentence of less than 60 characters counts as one with the next.
    """
    units = _units(text)
    if len(units) <= sentences:
        return " ".join(units)
    shared = [len(question & set(words(unit))) for unit in units]
    best = sorted(sorted(range(len(units)), key=lambda n: -shared[n])[:sentences])
    clipped = units[best[0]]
    for previous, n in pairwise(best):
        clipped += (" " if n == previous + 1 else _GAP) + units[n]
    return clipped


def _units(text: str) -> list[str]:
    units: list[str] = []
    for sentence in _END.split(text):
        for piece in _pieces(sentence.strip()):
            if units and len(units[-1]) < _SHORT:
                units[-1] += f" {piece}"
            else:
                units.append(piece)
    return units


def _pieces(sentence: str) -> list[str]:
    """*sentence* in pieces that are not too long, cut between words where there are any."""
    pieces = []
    while len(sentence) > _LONGEST:
        cut = sentence.rfind(" ", 1, _LONGEST)
        cut = cut if cut > 0 else _LONGEST
        pieces.append(sentence[:cut])
        sentence = sentence[cut:].lstrip()
    return [*pieces, sentence] if sentence else pieces
