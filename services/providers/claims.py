"""What a provider says of its own answer, believed only where it can be true."""

from __future__ import annotations

from typing import Final

_MOST_TOKENS: Final = (1 << 31) - 1
_LONGEST_NAME: Final = 200


def count_in(usage: object, name: str) -> int | None:
    """The count *name* of a `usage` object; None unless it is a number of tokens.

    Whatever else stands there is no count, and no reason to fail an answer.
    """
    count = usage.get(name) if isinstance(usage, dict) else None
    # Not `isinstance`: True is an int.
    return count if type(count) is int and 0 <= count <= _MOST_TOKENS else None


def model_name(said: str | None, asked: str) -> str:
    """The model that was *said* to answer, or the one that was *asked* if that is no name to write down."""
    return said if said and len(said) <= _LONGEST_NAME and said.isprintable() else asked
