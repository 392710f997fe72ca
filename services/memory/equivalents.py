"""English words that stand for one another, where an ending does not tell: irregular forms, everyday synonyms."""

from __future__ import annotations

from typing import Final

from services.memory.stemming import stem

# Without those that are stop words, or more often something else ("bit", "rose", "wound").
_IRREGULAR: Final = """
    become became, begin began begun, bend bent, blow blew blown, break broke broken, bring brought,
    build built, burn burnt, buy bought, catch caught, choose chose chosen, come came, deal dealt, dig dug,
    draw drew drawn, dream dreamt, drink drank drunk, drive drove driven, eat ate eaten, fall fell fallen,
    feed fed, feel felt, fight fought, find found, flee fled, fly flew flown, forget forgot forgotten,
    forgive forgave forgiven, freeze froze frozen, give gave given, go went gone, grow grew grown,
    hang hung, hear heard, hide hid hidden, hold held, keep kept, kneel knelt, know knew known, lay laid,
    lead led, learn learnt, leave left, lend lent, light lit, lose lost, make made, mean meant, meet met,
    pay paid, ride rode ridden, ring rang rung, rise risen, run ran, see saw seen, seek sought, sell sold,
    send sent, shake shook shaken, shoot shot, show shown, shrink shrank, sing sang sung, sink sank sunk,
    sit sat, sleep slept, slide slid, speak spoke spoken, spend spent, spin spun, stand stood,
    steal stole stolen, stick stuck, strike struck, swear swore sworn, sweep swept, swim swam swum,
    swing swung, take took taken, teach taught, tear tore torn, think thought, throw threw thrown,
    understand understood, wake woke woken, wear wore worn, weave wove woven, weep wept, win won,
    withdraw withdrew withdrawn, write wrote written, child children, person people, man men, woman women,
    wife wives, life lives, foot feet, tooth teeth, mouse mice, goose geese, leaf leaves, knife knives,
    half halves, shelf shelves"""
_SYNONYMS: Final = """
    kid child children, mom mum mother, dad father, grandma grandmother, grandpa grandfather,
    photo photograph picture pic image, movie film, tv television, bike bicycle, car vehicle,
    fest festival, trip travel journey vacation holiday, job work career profession occupation,
    house home, store shop, doctor physician, friend buddy, big large, begin start,
    buy bought purchase, gift present, contest competition, business company, hobby activity,
    participate attend join, favorite favourite fave, color colour"""


def _groups(text: str) -> dict[str, frozenset[str]]:
    groups: dict[str, frozenset[str]] = {}
    for group in text.split(","):
        stems = frozenset(map(stem, group.split()))
        for each in stems:
            groups[each] = groups.get(each, frozenset()) | stems
    return groups


_EQUIVALENTS: Final = _groups(f"{_IRREGULAR}, {_SYNONYMS}")


def equivalents(stemmed: str) -> frozenset[str]:
    """The stems that mean the same as *stemmed*, and itself."""
    return _EQUIVALENTS.get(stemmed, frozenset({stemmed}))
