"""What a text is found by: its words as index terms, and a question's words as terms to look for."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Final

from services.memory import unspaced
from services.memory.dates import NamedDate, dates_in
from services.memory.equivalents import equivalents
from services.memory.languages import (
    ASKING,
    is_old_talk,
    languages_of,
    stop_words,
    without_ending,
)
from services.memory.stemming import stem
from services.steps import Steps, portions

# A question's first words are not its best: beyond this many, the longest are kept.
_MOST_TERMS: Final = 24
# Longer "words" are data (keys, base64); their first letters are enough to find them again.
_LONGEST: Final = 64

# Vowel signs and tone marks belong to the word in scripts that write them as marks.
_MARKS: Final = "\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0963\u0966-\u0dff\u0e80-\u0eff\u0f18-\u0fff\u1000-\u109f\u1780-\u17d3"
_LATIN_ACCENTS: Final = re.compile("[\u0300-\u036f]")
_RUNS: Final = re.compile(f"[{unspaced.LETTERS}]+")
_WORDS: Final = re.compile(rf"(?:[^\W_{unspaced.LETTERS}]+|(?![{unspaced.LETTERS}])[{_MARKS}])+")
_ASCII_WORDS: Final = re.compile("[a-z0-9]+")

# A step of indexing takes a fraction of a millisecond: so much of a text, so many terms. Chinese and
# Japanese have no spaces to end a piece at.
_PIECES: Final = re.compile(r".{1,2000}[^\s、。，！？]*", re.DOTALL)
_PORTION: Final = 100

# Who speaks, as people and the programs they copy from write it: `Alice: `, `[10:32] Alice: `,
# `2023-05-08 Alice: `, `Alice (8 May): `, `Alice said, `, `[Alice] `. All of it is short.
_LONGEST_SPEAKER: Final = 500
_NAME: Final = r"[^\W\d_][\w.-]*(?:[ ][^\W\d_][\w.-]*){0,2}?"
_ASIDE: Final = r"(?:\[[^\]\n]{1,60}\]|\([^)\n]{1,60}\))"
_SPEAKER: Final = re.compile(
    rf"\s*(?:(?:(?:{_ASIDE}|\d[\d:./T-]{{0,30}})[ ,-]{{0,3}}){{0,2}}({_NAME})(?:[ ]?{_ASIDE})?"
    rf"(?::|[ ](?:said|says|wrote)[:,])|\[({_NAME})\])\s"
)


_ENGLISH: Final = frozenset({"en"})


@dataclass(frozen=True, slots=True)
class IndexTerms:
    """The distinct terms of a remembered text, and its length in words."""

    terms: frozenset[str]
    length: int


@dataclass(frozen=True, slots=True)
class QueryTerms:
    """What a question looks for.

    Each term is a set of spellings, any of which will do. `words` are all its words, for names, in
    its order; `dates` are those it names.
    """

    terms: tuple[frozenset[str], ...]
    words: tuple[str, ...] = ()
    dates: tuple[NamedDate, ...] = ()
    asks_when: bool = False


def index_terms(text: str) -> Steps[IndexTerms]:
    """The terms by which *text* is found, in steps: an answer may have a hundred thousand characters.

    English words go in as stems; words of a text in another language as they are, and without
    their inflection. Where the language is unclear, all of these.
    """
    length = 0
    words: set[str] = set()
    runs: list[str] = []
    for piece in _PIECES.finditer(text):
        spaced, unbroken = _split(piece[0])
        words.update(spaced)
        runs += unbroken
        # A word of scripts without spaces is about two characters long.
        length += len(spaced) + sum((len(run) + 1) // 2 for run in unbroken)
        yield
    languages = languages_of(words, least=2)
    found: list[Iterable[str]] = [unspaced.index_pieces(run) for run in runs]
    if "en" in languages or not languages:
        found.append(map(stem, words))
    if languages != _ENGLISH:
        found += words, map(_uninflected, words)
    terms: set[str] = set()
    for portion in portions(chain.from_iterable(found), _PORTION):
        terms.update(portion)
        yield
    return IndexTerms(frozenset(terms), length)


def query_terms(question: str) -> QueryTerms:
    """The terms *question* looks for; none if it asks for nothing but earlier talk."""
    words, runs = _split(question)
    languages = languages_of(words)
    dropped = stop_words(languages) | ASKING
    topics = [word for word in dict.fromkeys(words) if word not in dropped]
    pieces = [piece for run in runs for piece in unspaced.query_pieces(run)]
    if is_old_talk(topics, languages) and all(map(unspaced.is_old_talk, runs)):
        topics, pieces = [], []

    # A text is indexed by the rules of its own language, which need not be the question's.
    spellings = [
        equivalents(stem(w)) | ({w} if languages == _ENGLISH else {w, _uninflected(w)})
        for w in topics
    ]
    spellings += [frozenset((piece,)) for piece in pieces]
    return QueryTerms(
        _choose(spellings), tuple(words), dates_in(question), asks_when="when" in words[:1]
    )


def speaker_of(text: str) -> frozenset[str]:
    """The names in front of a text like `Alice: Hello`, as words; empty if there are none."""
    found = _SPEAKER.match(text, 0, _LONGEST_SPEAKER)
    return frozenset(_split(found[1] or found[2])[0]) if found else frozenset()


def words(text: str) -> list[str]:
    """The words of *text* without case and accents; pairs of characters where there are no spaces."""
    spaced, runs = _split(text)
    return [stem(word) for word in spaced] + [
        piece for run in runs for piece in unspaced.index_pieces(run)
    ]


def _split(text: str) -> tuple[list[str], list[str]]:
    """The words of *text*, and its runs of letters in scripts without spaces."""
    folded = _fold(text)
    if folded.isascii():  # in a fifth of the time
        spaced, runs = _ASCII_WORDS.findall(folded), []
    else:
        spaced, runs = _WORDS.findall(_RUNS.sub(" ", folded)), _RUNS.findall(folded)
    return [word[:_LONGEST] for word in spaced], runs


def _uninflected(word: str) -> str:
    # Marked, so that a Spanish "care" without its ending is no car.
    return f"{without_ending(word)}~"


def _fold(text: str) -> str:
    text = text.casefold()
    if text.isascii():
        return text
    # Decomposed, an accent is a character of its own; composed again, Hangul is syllables.
    return unicodedata.normalize("NFC", _LATIN_ACCENTS.sub("", unicodedata.normalize("NFKD", text)))


def _choose(terms: list[frozenset[str]]) -> tuple[frozenset[str], ...]:
    distinct = list(dict.fromkeys(terms))
    if len(distinct) > _MOST_TERMS:
        distinct.sort(key=lambda spellings: max(map(len, spellings)), reverse=True)
    return tuple(distinct[:_MOST_TERMS])
