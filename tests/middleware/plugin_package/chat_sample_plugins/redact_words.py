"""Replace listed words in answers, also when a word comes in several pieces."""

import re
from weakref import WeakKeyDictionary

from pydantic import BaseModel

from services.events import TextDelta

_LAST_WORD = re.compile(r"\w*\Z")
_FIRST_WORD = re.compile(r"\w*")


class RedactWords:
    """Replaces `MIDDLEWARE_REDACT_WORDS_WORDS`, whole words in any case, by `…_MASK`."""

    class Options(BaseModel):
        """What to hide, and what to show instead."""

        words: tuple[str, ...]
        mask: str = "***"

    def __init__(self, options):
        self._words = tuple(word.lower() for word in options.words)
        self._mask = options.mask
        listed = "|".join(map(re.escape, options.words))
        self._listed = re.compile(rf"(?<!\w)(?:{listed})(?!\w)", re.IGNORECASE)
        # Weak: a turn is forgotten with the turn, however it ends.
        self._answers = WeakKeyDictionary()

    def on_event(self, turn, event):
        """Redact text; before any other event, let go of what was held back."""
        answer = self._answers.get(turn)
        if isinstance(event, TextDelta):
            if answer is None:
                answer = self._answers[turn] = _Answer(self)
            text = answer.add(event.text)
            return (TextDelta(text),) if text else ()
        held = answer.end() if answer else ""
        return (TextDelta(held), event) if held else (event,)

    def could_become_listed(self, start):
        """Whether a listed word begins with *start*."""
        return any(word.startswith(start.lower()) for word in self._words)

    def redact(self, text):
        """*text* without listed words."""
        return self._listed.sub(lambda _: self._mask, text)


class _Answer:
    """One answer so far. Holds back its last word as long as that may become a listed one."""

    def __init__(self, rules):
        self._rules = rules
        self._held = ""
        self._inside_word = False  # What has left ends inside a word that is not listed.

    def add(self, piece):
        text = self._held + piece
        last = _LAST_WORD.search(text).start()
        continues = self._inside_word and last == 0
        if last == len(text) or continues or not self._rules.could_become_listed(text[last:]):
            last = len(text)
        ready, self._held = text[:last], text[last:]
        start = _FIRST_WORD.match(ready).end() if self._inside_word else 0
        if ready:
            self._inside_word = _LAST_WORD.search(ready).start() < len(ready)
        return ready[:start] + self._rules.redact(ready[start:])

    def end(self):
        held, self._held = self._held, ""
        return self._rules.redact(held)
