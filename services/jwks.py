"""Public keys of a token issuer, fetched from its JSON Web Key Set (RFC 7517)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from math import inf
from time import monotonic
from typing import Any

import aiohttp
import jwt
from loguru import logger as log

from services.errors import KeysUnavailable

# A key takes about half a KiB: room for a hundred.
MAX_BYTES = 65_536

# What a key may be used for is decided here, by its type, and by nothing a token says.
ALGORITHMS = {"EC": "ES256", "RSA": "RS256"}

# Fewer bits can be broken; a check against many more would hold up the event loop.
RSA_BITS = range(2048, 8193)

Keys = Mapping[tuple[str, str], jwt.PyJWK]


class BadKeySet(Exception):
    """The answer is not a key set."""


def read_key_set(document: Any) -> Keys:
    """The keys in *document* that verify signatures, by id and algorithm; others are left out.

    Raises `BadKeySet` when it has not the shape of a key set.
    """
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise BadKeySet("not a key set")
    keys: dict[tuple[str, str], jwt.PyJWK] = {}
    # One by one and not by PyJWKSet, where a single odd member spoils the whole set.
    for member in document["keys"]:
        key = _verification_key(member) if isinstance(member, dict) else None
        if key is not None:
            keys.setdefault((member["kid"], key.algorithm_name), key)
    return keys


@asynccontextmanager
async def open_keys(url: str, *, patience: float = 4.0, **pace: float) -> AsyncIterator[RemoteKeys]:
    """The keys published at *url* while the block runs; the first fetch starts at once.

    A fetch may take *patience* seconds. *pace* is passed on to `RemoteKeys`. Waits for nothing.
    """
    session = aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=patience),
        # Minutes pass between fetches: an idle socket would only be closed by the other side.
        connector=aiohttp.TCPConnector(force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={"accept": "application/json", "accept-encoding": "identity"},
    )
    async with session:
        keys = RemoteKeys(session, url, **pace)
        keys.refresh()
        try:
            yield keys
        finally:
            await keys.close()


class RemoteKeys:
    """A key set that is fetched when needed, never by two callers at once, and kept through outages.

    A set older than *renew_after* seconds is renewed in the background when it is used; one older
    than *max_age* is not used before that, unless it fails. An unknown key leads to a fetch unless
    the last one was less than *cooldown* seconds ago, so forged key ids can't make us hammer the
    issuer; before the first success, *retry* seconds.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        *,
        renew_after: float = 300.0,
        max_age: float = 600.0,
        cooldown: float = 60.0,
        retry: float = 5.0,
    ) -> None:
        self._session = session
        self._url = url
        self._renew_after = renew_after
        self._max_age = max_age
        self._cooldown = cooldown
        self._retry = retry
        self._keys: Keys = {}
        self._healthy = True
        self._tried_at = -inf
        self._fetched_at = -inf
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, kid: str, algorithm: str) -> jwt.PyJWK | None:
        """The key called *kid* made for *algorithm*; None when the issuer publishes no such key.

        Waits for a fetch when the key is unknown or the set too old, and a fetch is due; cancelling
        the caller leaves the fetch to the other callers. Raises `KeysUnavailable` when the key is
        unknown and the last fetch failed: it may exist, and its owner must not be logged out.
        """
        known = (kid, algorithm) in self._keys
        if known:
            pause = self._renew_after if self._healthy else self._cooldown
        else:
            pause = self._retry if self._fetched_at == -inf else self._cooldown
        if monotonic() - self._tried_at >= pause:
            self.refresh()
        too_old = self._healthy and monotonic() - self._fetched_at >= self._max_age
        if self._fetching is not None and (too_old or not known):
            await asyncio.shield(self._fetching)
        key = self._keys.get((kid, algorithm))
        if key is None and not self._healthy:
            raise KeysUnavailable(retry_after=self._tried_at + pause - monotonic())
        return key

    def refresh(self) -> None:
        """Start fetching the key set, unless that is going on already."""
        if self._fetching is None or self._fetching.done():
            self._tried_at = monotonic()
            self._fetching = asyncio.create_task(self._fetch(), name="jwks")

    async def close(self) -> None:
        """Stop fetching."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    async def _fetch(self) -> None:
        try:
            keys = read_key_set(await self._download())
        except (aiohttp.ClientError, TimeoutError, BadKeySet) as exc:
            if self._healthy:
                error = f"{type(exc).__name__}: {exc}"
                log.warning("Key set not available", error=error, known=len(self._keys))
            self._healthy = False
            return
        if not self._healthy or keys.keys() != self._keys.keys() or self._fetched_at == -inf:
            log.info("Key set loaded", usable=len(keys))
        self._keys, self._healthy, self._fetched_at = keys, True, monotonic()

    async def _download(self) -> Any:
        # No redirects: the URL is configured, and nobody else chooses where we connect to.
        async with self._session.get(self._url, allow_redirects=False) as response:
            if response.status != 200:
                raise BadKeySet(f"status {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise BadKeySet("too large")
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as exc:
            raise BadKeySet("not JSON") from exc


def _verification_key(member: dict[str, Any]) -> jwt.PyJWK | None:
    """*member* as a key that verifies signatures; None if it is for anything else.

    An HMAC key is never one: published, it is no secret. Nor is a private key.
    """
    kty, kid, operations = member.get("kty"), member.get("kid"), member.get("key_ops", ["verify"])
    algorithm = ALGORITHMS.get(kty) if isinstance(kty, str) else None
    if (
        algorithm is None
        or not (isinstance(kid, str) and kid)
        or member.get("alg", algorithm) != algorithm
        or member.get("use", "sig") != "sig"
        or not (isinstance(operations, list) and "verify" in operations)
        or (kty == "EC" and member.get("crv") != "P-256")
        or "d" in member
    ):
        return None
    try:
        key = jwt.PyJWK(member, algorithm)
    except jwt.PyJWTError:
        return None
    if kty == "RSA" and key.key.key_size not in RSA_BITS:
        return None
    return key
