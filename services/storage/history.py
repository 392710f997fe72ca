"""History: the latest exchanges of a session, as many as a budget of tokens holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from services.turn import Message

# What providers wrap a message in, in tokens, besides its text.
PER_MESSAGE: Final = 4
# Less is left of an exchange than can be of use: the budget ends with the exchange before.
_WORTH: Final = 100
# Both ends of a text are referred to: "the second one" is a list at its beginning, and "go on" or a
# bare "yes" its last words. Those are also the only hint at where an answer broke off.
_BEGINNING: Final = 1 / 3
_GAP: Final = "\n[…]\n"


@dataclass(frozen=True, slots=True)
class Said:
    """One message of the turn `turn_id`, of so many `tokens` by itself, or fewer."""

    turn_id: str
    message: Message
    tokens: int

    @property
    def size(self) -> int:
        """Its tokens, at most; counting those of a long text would take milliseconds."""
        # No token is less than a byte. What was billed, and once stored, may be more than there are.
        return min(self.tokens, len(self.message.content.encode("utf-8", "replace")))


def history(said: Iterable[Said], *, budget: int, count: Callable[[str], int]) -> list[Message]:
    """The exchanges of *said*, newest first, that fit into *budget* tokens; oldest first.

    The first that does not is clipped in its middle, if enough is left for it, and the last that
    is said always; where it was, the text says so. Blank messages are left out: Anthropic refuses
    a conversation with one (400, "text content blocks must contain non-whitespace text").
    *count* gives the tokens of a text.
    """
    exchanges: dict[str, list[Said]] = {}
    for each in said:
        if each.message.content.strip():
            exchanges.setdefault(each.turn_id, []).insert(0, each)
    fitting: list[Message] = []
    left = budget
    for exchange in exchanges.values():
        if exchange[0].message.role != "user":
            continue  # its question was not fetched
        size = sum(each.size + PER_MESSAGE for each in exchange)
        if size > left:
            if left >= _WORTH or not fitting:
                fitting = [*_clipped(exchange, left, count), *fitting]
            break
        fitting = [*(each.message for each in exchange), *fitting]
        left -= size
    return fitting


def _clipped(exchange: Sequence[Said], room: int, count: Callable[[str], int]) -> list[Message]:
    """*exchange* in *room* tokens, as much of question and answer as of the other if both are long."""
    room -= PER_MESSAGE * len(exchange)
    question, *answers = exchange
    share = max(room - sum(answer.size for answer in answers), room // 2)
    if not (asked := _clip(question, share, count)):
        return []
    room -= min(question.size, count(asked))
    texts = (_clip(answer, room, count) for answer in answers)
    return [Message("user", asked), *(Message("assistant", text) for text in texts if text)]


def _clip(said: Said, room: int, count: Callable[[str], int]) -> str:
    """Beginning and end of what was *said*, in *room* tokens; nothing if that is too little for both."""
    text = said.message.content
    if said.size <= room:
        return text
    letters = len(text) * max(room, 0) // said.size
    while letters > len(_GAP):
        beginning = round(letters * _BEGINNING)
        clipped = text[:beginning].rstrip() + _GAP + text[beginning - letters :].lstrip()
        if count(clipped) <= room:
            return clipped
        letters = letters * 9 // 10  # tokens are not spread evenly
    return ""
