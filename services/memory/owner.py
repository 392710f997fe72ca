"""Whose memory it is: a user's id and terms as they stand in the index."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


class Owner:
    """One user, as the index knows them.

    A user id is any text and may look like part of another, like an index operator, or hold
    characters a database refuses. Hashed, it is none of that. The terms are hashed with it as the
    key, so two users have no term in common: nobody's search can meet another's messages, or slow
    down with their number.
    """

    def __init__(self, user_id: str) -> None:
        # `surrogatepass`: a token may hold a lone surrogate, which is still somebody.
        digest = blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=32).digest()
        self.id = digest.hex()
        self._keyed = blake2b(key=digest, digest_size=8)

    def tokens(self, terms: Iterable[str]) -> list[str]:
        """*terms* as 16 hexadecimal digits each, sorted."""
        return sorted(map(self._token, terms))

    def _token(self, term: str) -> str:
        hashed = self._keyed.copy()
        hashed.update(term.encode("utf-8", "surrogatepass"))
        return hashed.hexdigest()
