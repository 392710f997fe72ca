"""The whole service on a real socket, with a client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import aiohttp
import pytest
from chat_client import ChatClient
from logged import facts, logged
from upstream import Upstream

from blueprints.context import ChatApp
from sanic_server import SanicServer

Serve: TypeAlias = Callable[..., Awaitable[ChatClient]]


@pytest.fixture
async def serving(
    loop: Any, make_app: Callable[..., ChatApp], bearer: dict[str, str]
) -> AsyncIterator[Serve]:
    """Starts the service, with variables and parts, and gives a client with a valid token."""
    servers: list[SanicServer] = []
    sessions: list[aiohttp.ClientSession] = []

    async def start(variables: dict[str, str] | None = None, **parts: Any) -> ChatClient:
        server = SanicServer(make_app(variables, **parts))
        await server.start()
        servers.append(server)
        session = aiohttp.ClientSession()
        sessions.append(session)
        return ChatClient(session, server, bearer)

    yield start
    for session in sessions:
        await session.close()
    for server in servers:
        await server.stop()


@pytest.fixture
async def client(serving: Serve) -> ChatClient:
    """A client of the service as it is by default."""
    return await serving()


@pytest.fixture
async def upstream(loop: Any) -> AsyncIterator[Upstream]:
    """A provider's server, playing whatever a test gives it."""
    async with Upstream() as upstream:
        yield upstream


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What is logged, as phrase and fields."""
    with logged(facts) as lines:
        yield lines


@pytest.fixture
def warnings() -> Iterator[list[dict[str, Any]]]:
    """What is logged above INFO, as phrase and fields."""
    with logged(facts, "WARNING") as lines:
        yield lines


@pytest.fixture
def asking(upstream: Upstream) -> dict[str, str]:
    """The variables with which the service asks `upstream`."""
    return {
        "OPENAI_API_KEY": "planted",
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_FIRST_TOKEN_TIMEOUT_MS": "20000",
    }
