"""What a request costs before it is answered: its token verified, its quotas taken and given back.

`python -m bench.admission` prints microseconds of CPU time, the best of five rounds (the least disturbed).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from loguru import logger

from services.identity import Identity, bearer_token
from services.limits.limiter import open_limits
from services.limits.quotas import Quotas

SECRET = "a-secret-for-benchmarks-of-forty-letters"
CLAIMS = {
    "sub": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
    "aud": "authenticated",
    "iss": "https://project.supabase.co/auth/v1",
    "email": "ann@example.com",
    "role": "authenticated",
    "exp": int(time.time()) + 3600,
}


class PublishedKey:
    """A key source that knows one key."""

    def __init__(self, private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, name: str) -> None:
        implementation = jwt.get_algorithm_by_name(name)
        self._key = jwt.PyJWK(implementation.to_jwk(private.public_key(), as_dict=True), name)

    async def find(self, kid: str, algorithm: str) -> jwt.PyJWK:
        """That key."""
        return self._key


async def measure(label: str, times: int, work: Callable[[], Awaitable[object]]) -> None:
    """Print the CPU time one *work* takes."""
    rounds = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(times):
            await work()
        rounds.append((time.process_time() - started) / times * 1e6)
    print(f"{label:<45}{min(rounds):8.2f} µs")


async def verification() -> None:
    """A token that is remembered, and one that is checked, by each algorithm."""
    token = jwt.encode(CLAIMS, SECRET)
    header = f"Bearer {token}"
    identity = Identity(SECRET, "authenticated")

    async def remembered() -> None:
        await identity.verify(bearer_token([header]) or "")

    await measure("header parsed, token remembered", 50_000, remembered)
    elliptic = ec.generate_private_key(ec.SECP256R1())
    big = rsa.generate_private_key(65537, 2048)
    for name, key in (("HS256", SECRET), ("ES256", elliptic), ("RS256", big)):
        keys = None if isinstance(key, str) else PublishedKey(key, name)
        token = jwt.encode(CLAIMS, key, name, headers={"kid": "a"})
        fresh = Identity(SECRET, "authenticated", keys=keys, remember_for=0.0)
        await measure(f"token verified, {name}", 2000, lambda: fresh.verify(token))  # noqa: B023 - run now


async def admission() -> None:
    """One answer of a thousand users in turn, in-process."""
    for budget in (None, Decimal(1_000_000)):
        async with open_limits(Quotas(10_000_000, 10, 10_000, budget)) as limits:
            numbers = iter(range(10**9))

            async def admit() -> None:
                lease = await limits.admit(f"user-{next(numbers) % 1000}", worst_case=Decimal(1))  # noqa: B023
                lease.release(Decimal("0.0001"))

            budgeted = "with a budget" if budget else "without a budget"
            await measure(f"admitted and released, {budgeted}", 20_000, admit)


async def main() -> None:
    """All of it."""
    logger.remove()
    await verification()
    await admission()


if __name__ == "__main__":
    asyncio.run(main())
