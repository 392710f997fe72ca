"""Characters that a provider tore in two: half a surrogate pair here, the other in the next event."""

from __future__ import annotations

import json
from typing import TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


def decode_leniently(event: bytes, kind: type[T]) -> T:
    """*event* as *kind*, although it holds what msgspec refuses: half surrogate pairs, endless integers.

    Raises ValueError.
    """
    return msgspec.convert(json.loads(event.decode(), parse_int=_integer), kind)


def _integer(digits: str) -> int | float:
    # Python itself refuses more than 4,300 digits. No count has more than 19.
    return int(digits) if len(digits) < 20 else float(digits)


class TornText:
    """Joins the halves. Both are in events that msgspec refuses, so nothing else has to look for them."""

    def __init__(self) -> None:
        self._half = ""

    def join(self, text: str) -> str:
        """The half that is still open, and *text*; a half at its end is kept for the next call.

        A half whose other one never comes is U+FFFD.
        """
        text = self._half + text
        self._half = text[-1] if "\ud800" <= text[-1:] <= "\udbff" else ""
        whole = text[: len(text) - len(self._half)]
        return whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
