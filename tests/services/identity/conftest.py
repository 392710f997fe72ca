"""A verifier with a secret, and an issuer with its keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from key_server import KeyServer, SigningKey, serving
from minting import SECRET

from services.identity import Identity


@pytest.fixture
def identity() -> Identity:
    return Identity(SECRET, "authenticated")


@pytest.fixture(scope="session")
def elliptic() -> SigningKey:
    return SigningKey("elliptic", "ES256")


@pytest.fixture(scope="session")
def rsa() -> SigningKey:
    return SigningKey("rsa", "RS256")


@pytest.fixture
async def key_server(loop: asyncio.AbstractEventLoop) -> AsyncIterator[KeyServer]:
    async with serving(KeyServer()) as server:
        yield server
