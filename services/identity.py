"""Identity: turn a bearer token into the principal who sent it, or refuse it."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any, Protocol

import jwt
from loguru import logger as log

from services.errors import Unauthorized

MAX_TOKEN = 8192
MAX_SUBJECT = 255
MAX_EMAIL = 320

# 9999-12-31T23:59:59Z; beyond it an expiry is no date, and `datetime` raises on it.
_LAST_INSTANT = 253_402_300_799

# RFC 6750, section 2.1: the scheme, spaces, then b64token. No space or comma can be part of it.
_CREDENTIALS = re.compile(r"(?ai:bearer) +([A-Za-z0-9._~+/-]+=*)")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sent a request. `expires_at` is when the token ends, in epoch seconds."""

    user_id: str
    email: str | None
    expires_at: int


class KeySource(Protocol):
    """Public keys by their id, each bound to one algorithm."""

    async def find(self, kid: str, algorithm: str) -> jwt.PyJWK | None:
        """The key called *kid* that is made for *algorithm*, or None when there is no such key.

        Raises `KeysUnavailable` when that cannot be known at the moment.
        """
        ...


def bearer_token(headers: Sequence[str]) -> str | None:
    """The token of a request with these `Authorization` *headers*; None when it has none.

    Raises `Unauthorized` for anything that isn't one `Bearer <token>`, an empty header too.
    """
    if not headers:
        return None
    found = _CREDENTIALS.fullmatch(headers[0])
    if found is None or len(headers) > 1:
        raise _refused("malformed header")
    return found[1]


class Identity:
    """Verifies bearer tokens: HS256 by *secret*, ES256 and RS256 by *keys* (RFC 8725).

    *audience* and, if given, *issuer* must be the token's own. *leeway* is the clock skew that is
    forgiven, in seconds. Of up to *remembered* verified tokens the outcome is kept, each for at most
    *remember_for* seconds, because a check costs tens of microseconds; longer, and a token signed by
    a withdrawn key would work until it expires.
    """

    def __init__(
        self,
        secret: str | None,
        audience: str,
        issuer: str | None = None,
        keys: KeySource | None = None,
        leeway: float = 30.0,
        *,
        remembered: int = 10_000,
        remember_for: float = 600.0,
    ) -> None:
        if secret is None and keys is None:
            raise ValueError("a secret or a key source is needed to verify tokens")
        self._secret = secret
        self._keys = keys
        self._audience = audience
        self._issuer = issuer
        self._leeway = leeway
        self._remembered = remembered
        self._remember_for = remember_for
        # By the token's hash, so that no usable token stays in memory: principal, check again at.
        self._known: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()

    async def verify(self, token: str) -> Principal:
        """The principal that *token* speaks for.

        Doesn't wait, unless the token names a public key that has to be fetched. Raises `Unauthorized`
        with the same message whatever is wrong (the log has the reason), `KeysUnavailable` when a key
        server is needed and silent.
        """
        if len(token) > MAX_TOKEN or not token.isascii():
            raise _refused("oversized or not ASCII")
        digest = sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is not None:
            principal, check_at = known
            if time.time() < check_at:
                return principal
            del self._known[digest]
        principal = await self._check(token)
        self._remember(digest, principal)
        return principal

    def _remember(self, digest: bytes, principal: Principal) -> None:
        ends = principal.expires_at + self._leeway
        self._known[digest] = principal, min(ends, time.time() + self._remember_for)
        if len(self._known) > self._remembered:
            self._known.popitem(last=False)

    async def _check(self, token: str) -> Principal:
        try:
            key, algorithms = await self._key(*_names(token.partition(".")[0]))
            claims = jwt.decode(
                token,
                key,
                algorithms=algorithms,
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
                options={"require": ["exp", "sub", "aud"], "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError as exc:
            # Its text may quote the token; its name doesn't.
            raise _refused(type(exc).__name__) from exc
        return _principal(claims)

    async def _key(self, algorithm: str, kid: str) -> tuple[str | jwt.PyJWK, list[str]]:
        """The key for a token whose header names these, and the algorithms it may be used with.

        Which kind of key is all that `alg` decides; each kind has its own allow-list, so an RSA key is
        never an HMAC secret. Of the rest only `kid` is read: keys that a token brings along or points
        to (`jwk`, `jku`, `x5c`, `x5u`) are ignored.
        """
        if algorithm == "HS256" and self._secret is not None:
            return self._secret, ["HS256"]
        if algorithm in ("ES256", "RS256") and self._keys is not None:
            key = await self._keys.find(kid, algorithm)
            if key is None:
                raise _refused("unknown key")
            return key, ["ES256", "RS256"]
        raise _refused("algorithm not allowed")


@lru_cache(maxsize=64)
def _names(header: str) -> tuple[str, str]:
    """`alg` and `kid` of a token's first part. Raises `PyJWTError`.

    Remembered, for all tokens that one key has signed begin alike, and a token's check spends half
    its time on taking it apart.
    """
    fields = jwt.get_unverified_header(f"{header}..")
    return str(fields.get("alg")), fields.get("kid", "")


def _principal(claims: dict[str, Any]) -> Principal:
    # PyJWT has compared these three with the clock, after `int()`, which also takes text and booleans.
    for name in ("exp", "nbf", "iat"):
        if name in claims and type(claims[name]) not in (int, float):
            raise _refused(f"{name} is not a number")
    expires_at = int(claims["exp"])
    if expires_at > _LAST_INSTANT:
        raise _refused("exp is no date")
    user_id = claims["sub"]
    if not user_id.strip() or not _is_plain(user_id, MAX_SUBJECT):
        raise _refused("sub is not usable")
    email = claims.get("email")
    if not isinstance(email, str) or not email or not _is_plain(email, MAX_EMAIL):
        email = None
    return Principal(user_id, email, expires_at)


def _is_plain(text: str, longest: int) -> bool:
    # Not printable: control characters, line separators, lone surrogates. They'd end up in a log or a row.
    return len(text) <= longest and text.isprintable()


def _refused(reason: str) -> Unauthorized:
    log.info("Token refused", reason=reason)
    return Unauthorized()
