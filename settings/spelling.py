"""Environment variables that look like a misspelt setting."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

# `OPENAI_TIMEOUT` is 0.78 like `OPENAI_IDLE_TIMEOUT_MS`; `OPENAI_ORG_ID`, somebody else's, 0.64 like
# `OPENAI_API_KEY`.
_LIKENESS = 0.75


def near_misses(names: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """Those of *names* that nearly are *known*, with what was meant: a close match that opens with the same word."""
    return {
        name: best[0]
        for name in sorted(set(names) - set(known))
        if (best := get_close_matches(name, _kin(name, known), n=1, cutoff=_LIKENESS))
    }


def _kin(name: str, known: Iterable[str]) -> list[str]:
    word = name.partition("_")[0]
    return [
        other
        for other in known
        if (start := other.partition("_")[0]).startswith(word) or word.startswith(start)
    ]
