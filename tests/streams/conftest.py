"""The service, one or several of it, with a provider that waits for the test, and strict clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import pytest
from patience import PATIENCE
from sanic import Sanic
from scripted_provider import STOP, USAGE, ScriptedProvider

from app import create_app
from sanic_server import SanicServer
from services.bootstrap import Services
from services.events import TextDelta
from settings import Settings
from settings.development import development_token
from sse_client import Client


class Node:
    """One running service, and clients of it."""

    def __init__(self, server: SanicServer) -> None:
        self.server = server
        self.client = self.user("test-user-id")

    def user(self, user_id: str) -> Client:
        """A client of another user."""
        return Client(self.server.port, development_token(Settings(), user_id=user_id))

    @property
    def services(self) -> Services:
        return self.server.app.ctx.services

    async def idle(self) -> None:
        """Return when no answer runs any more."""
        async with asyncio.timeout(PATIENCE):
            await self.services.streams.idle()

    async def stop(self) -> None:
        """Stop it as a deploy does."""
        await self.server.stop()


StartNode: TypeAlias = Callable[..., Awaitable[Node]]


@pytest.fixture
async def start_node(loop: Any, environment: dict[str, str]) -> AsyncIterator[StartNode]:
    """Starts a service; several share the database, and Redis if the variables name one."""
    nodes: list[Node] = []

    async def start(variables: dict[str, str] | None = None, **parts: Any) -> Node:
        # Sanic allows one app of a name in a process; here each stands for a process of its own.
        Sanic._app_registry.clear()
        server = SanicServer(
            create_app(Settings.from_env(environment | (variables or {})), **parts)
        )
        await server.start()
        nodes.append(Node(server))
        return nodes[-1]

    yield start
    for node in nodes:
        await node.stop()


@pytest.fixture
def go_on() -> asyncio.Event:
    """What `held` answers wait for."""
    return asyncio.Event()


@pytest.fixture
def held(go_on: asyncio.Event) -> ScriptedProvider:
    """Says two words, waits for `go_on`, says two more and ends."""
    return ScriptedProvider(
        [TextDelta("one ")], [TextDelta("two ")], go_on, [TextDelta("three "), TextDelta("four")],
        [USAGE, STOP],
    )  # fmt: skip
