"""English words without their endings: Porter's algorithm of 1980.

The five steps and their conditions are those of M. F. Porter, "An algorithm for suffix stripping",
Program 14(3). A word's *shape* is its letters as vowels and consonants; its *measure* is how often
a vowel is followed by a consonant in it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_PLAIN: Final = re.compile(r"[a-z]{3,}")

_STEP_2: Final = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize", "abli": "able",
    "alli": "al", "entli": "ent", "eli": "e", "ousli": "ous", "ization": "ize", "ation": "ate",
    "ator": "ate", "alism": "al", "iveness": "ive", "fulness": "ful", "ousness": "ous", "aliti": "al",
    "iviti": "ive", "biliti": "ble",
}  # fmt: skip
_STEP_3: Final = {
    "icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": "",
}  # fmt: skip
_STEP_4: Final = dict.fromkeys((
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou",
    "ism", "ate", "iti", "ous", "ive", "ize",
), "")  # fmt: skip


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """The stem of the lower-case *word*; words with anything but `a`-`z` stay as they are."""
    if not _PLAIN.fullmatch(word):
        return word
    word = _step_1(word)
    word = _replace_longest(word, _STEP_2, above=0)
    word = _replace_longest(word, _STEP_3, above=0)
    word = _replace_longest(word, _STEP_4, above=1)
    return _step_5(word)


def _step_1(word: str) -> str:
    """Plurals, past tenses, and a final y."""
    if word.endswith(("sses", "ies")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]

    if word.endswith("eed"):
        if _measure(word[:-3]) > 0:
            word = word[:-1]
    else:
        for ending in ("ed", "ing"):
            if word.endswith(ending):
                if "v" in _shape(word[: -len(ending)]):
                    word = _repair(word[: -len(ending)])
                break

    if word.endswith("y") and "v" in _shape(word[:-1]):
        word = word[:-1] + "i"
    return word


def _repair(word: str) -> str:
    """What is left of a past tense, as the verb it came from would be spelled."""
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if _ends_double(word) and word[-1] not in "lsz":
        return word[:-1]
    if _measure(word) == 1 and _ends_short(word):
        return word + "e"
    return word


def _replace_longest(word: str, endings: dict[str, str], *, above: int) -> str:
    """*word* with its longest ending replaced, if the measure of what stands before is *above*."""
    for size in range(min(7, len(word)), 1, -1):
        ending = word[-size:]
        if ending in endings:
            head = word[:-size]
            if _measure(head) <= above or (ending == "ion" and not head.endswith(("s", "t"))):
                return word
            return head + endings[ending]
    return word


def _step_5(word: str) -> str:
    """A final e, and a double l."""
    if word.endswith("e"):
        head = word[:-1]
        measure = _measure(head)
        if measure > 1 or (measure == 1 and not _ends_short(head)):
            word = head
    if word.endswith("ll") and _measure(word) > 1:
        word = word[:-1]
    return word


def _shape(word: str) -> str:
    shape = ""
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and shape.endswith("c"))
        shape += "v" if vowel else "c"
    return shape


def _measure(word: str) -> int:
    return _shape(word).count("vc")


def _ends_double(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and _shape(word).endswith("c")


def _ends_short(word: str) -> bool:
    return _shape(word).endswith("cvc") and word[-1] not in "wxy"
