"""Pages of a list that grows while it is read: each page says, in a cursor, where the next begins."""

from __future__ import annotations

import base64
import binascii
import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Generic, TypeAlias, TypeVar

from services.errors import Detail, ValidationFailed

Item = TypeVar("Item")

# Where an item stands: a number, and a name among those with the same number.
Key: TypeAlias = tuple[int, str]

# Bytes that the items of a page may have together: a page waits in memory until its reader takes it.
LARGEST: Final = 128 * 1024

_LONGEST: Final = 512
_LARGEST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items, and the cursor of the page after them, or None if it is the last."""

    items: Sequence[Item]
    next_cursor: str | None


def page_of(
    found: Sequence[Item],
    limit: int,
    key: Callable[[Item], Key],
    size: Callable[[Item], int] = lambda item: 0,
) -> Page[Item]:
    """The page that begins *found*, of which one more was asked for than is shown.

    It has *limit* items, or as many as are `LARGEST` bytes together by *size*, but at least one.
    """
    items = found[:limit]
    sizes = list(accumulate(map(size, items)))
    items = items[: max(1, bisect_right(sizes, LARGEST))]
    return Page(items, encode_cursor(key(items[-1])) if len(found) > len(items) else None)


def encode_cursor(key: Key) -> str:
    """*key* as opaque text that needs no escaping in a URL."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> Key:
    """The key that *cursor* was made of. Raises `ValidationFailed` if it was not made here."""
    try:
        return _decode(cursor)
    except (ValueError, RecursionError, binascii.Error) as exc:
        detail = Detail("cursor", "This is not a cursor of this list.")
        raise ValidationFailed(details=[detail]) from exc


def _decode(cursor: str) -> Key:
    if len(cursor) > _LONGEST:
        raise ValueError("too long")
    padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
    key = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    match key:
        case [int(number), str(name)] if encode_cursor((number, name)) == cursor:
            name.encode()  # a lone surrogate is a ValueError
            # A boolean is an int to Python, and no number to a database.
            if type(number) is int and 0 <= number <= _LARGEST and "\0" not in name:
                return number, name
    raise ValueError("not a key")
