"""Text as every database takes it."""

from __future__ import annotations

import re
from typing import Final

_REFUSED: Final = re.compile("[\0\ud800-\udfff]")


def storable(text: str) -> str:
    """*text* with what Postgres (NUL) or UTF-8 (lone surrogates) refuses replaced by U+FFFD."""
    return _REFUSED.sub("\ufffd", text)
