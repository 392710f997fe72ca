"""Secrets are replaced in a text before it leaves the process."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote

REDACTED = "[redacted]"

# Shorter values are words: replacing them would ruin the log and protect nothing.
_SHORTEST_SECRET = 4

_BEARER = r"(?i:\bbearer)\s+(?!(?i:tokens?)\b)[^\s\"',;]+"
_JWT = r"\beyJ[\w-]{5,}(?:\.[\w-]*){0,4}"
_API_KEY = r"\bsk-[\w*-]{8,}"
_USER_INFO = r"(?<=://)[^\s/@\"']+(?=@)"
# One of these is in whatever those four match, "bearer" in any case.
_MARKS = ("eyJ", "sk-", "://")


class Redactor:
    """Replaces known secrets, and whatever has the shape of a credential."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spellings = {
            spelling
            for secret in secrets
            if len(secret) >= _SHORTEST_SECRET
            for spelling in _spellings(secret)
        }
        # The longest first, so that no secret survives in part because it contains another.
        known = [re.escape(text) for text in sorted(spellings, key=len, reverse=True)]
        self._pattern = re.compile("|".join([*known, _BEARER, _JWT, _API_KEY, _USER_INFO]))
        self._marks = (*spellings, *_MARKS)

    def __call__(self, text: str) -> str:
        """Return *text* without secrets."""
        # Nearly no text has any, and to look for these takes a tenth of the time of the pattern.
        if "bearer" not in text.lower():
            for mark in self._marks:
                if mark in text:
                    break
            else:
                return text
        return self._pattern.sub(REDACTED, text)


def _spellings(secret: str) -> set[str]:
    """How *secret* looks as it is, in a repr, in JSON and in a URL."""
    return {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe="")}
