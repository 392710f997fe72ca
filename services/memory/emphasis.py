"""What a question asks for besides its topics: who said a thing, and when."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from services.memory.dates import NamedDate, fit, most_fit
from services.memory.scoring import Traits
from services.memory.terms import QueryTerms

_QUESTION: Final = 0.8
_NAMED_SPEAKER: Final = 1.2
_OTHER_SPEAKER: Final = 0.86
_TELLS_TIME: Final = 1.3

_TIME: Final = re.compile(
    r"\b(?:yesterday|today|tomorrow|tonight|ago|last|next|since|soon|recently|(?:week|month|year|day)s?|weekends?"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)days?|january|february|march|april|may|june|july|august"
    r"|september|october|november|december|morning|evening|summer|winter|spring|autumn)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Emphasis:
    """The speaker whose words count more, if any, the dates named, and whether a time is asked for."""

    speaker: str | None
    dates: tuple[NamedDate, ...]
    asks_when: bool

    def weight(self, message: Traits) -> float:
        """How many times *message* counts, as far as its text does not matter."""
        weight = _QUESTION if message.is_question else 1.0
        if self.speaker and message.speaker:
            if self.speaker not in message.speaker.split():
                weight *= _OTHER_SPEAKER
            elif not message.is_question:  # what somebody asks is about the other
                weight *= _NAMED_SPEAKER
        return weight * fit(message.said_at, self.dates)

    def weight_of_text(self, text: str) -> float:
        """How many times more a message with *text* counts."""
        return _TELLS_TIME if self.asks_when and _TIME.search(text) else 1.0

    @property
    def highest_of_text(self) -> float:
        """More than this, `weight_of_text` does not give."""
        return _TELLS_TIME if self.asks_when else 1.0

    @property
    def highest(self) -> float:
        """No message counts more often, text and all."""
        named = _NAMED_SPEAKER if self.speaker else 1.0
        return named * most_fit(self.dates) * self.highest_of_text


def emphasis(question: QueryTerms, messages: Iterable[Traits]) -> Emphasis:
    """What *question* emphasizes, if *messages* are those that have to do with it.

    Of several speakers it names, the first is the one it is about: "What did Ann say to Ben?"
    """
    speakers = {name for message in messages for name in message.speaker.split()}
    speaker = next((word for word in question.words if word in speakers), None)
    return Emphasis(speaker, question.dates, question.asks_when)
