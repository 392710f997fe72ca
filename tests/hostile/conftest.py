"""The whole service on a real socket, and nothing that it may leave behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import pytest
from patience import PATIENCE
from raw_http import PING, Wire, answer_to, connected
from sanic.server import HttpProtocol

from blueprints.context import ChatApp
from sanic_server import SanicServer
from services.bootstrap import Services


class Node:
    """A running service."""

    def __init__(self, server: SanicServer) -> None:
        self.server = server
        self.port = server.port

    @property
    def services(self) -> Services:
        return self.server.app.ctx.services

    @property
    def connections(self) -> set[HttpProtocol]:
        return self.server._connections._open

    async def serves(self) -> None:
        """Fail unless the next client is served.

        Where a test leaves a request very little time, a busy machine may let that pass.
        """
        async with asyncio.timeout(PATIENCE):
            while (response := await answer_to(self.port, PING)).status == 408:
                pass
        assert response.status == 200

    async def idle(self) -> None:
        """Return when no answer runs and no connection gets heartbeats."""
        async with asyncio.timeout(PATIENCE):
            await self.services.streams.idle()
            while len(self.services.heartbeat):  # noqa: ASYNC110 - nobody else waits for this
                await asyncio.sleep(0.01)


Start: TypeAlias = Callable[..., Awaitable[Node]]


@pytest.fixture
async def start(loop: Any, make_app: Callable[..., ChatApp]) -> AsyncIterator[Start]:
    """Starts the service with variables and parts."""
    servers: list[SanicServer] = []

    async def begin(variables: dict[str, str] | None = None, **parts: Any) -> Node:
        server = SanicServer(make_app(variables, **parts))
        await server.start()
        servers.append(server)
        return Node(server)

    yield begin
    for server in servers:
        await server.stop()


@pytest.fixture
async def node(start: Start) -> Node:
    """The service as it is by default."""
    return await start()


@pytest.fixture
async def wire(node: Node) -> AsyncIterator[Wire]:
    """A connection to `node`."""
    async with connected(node.port) as opened:
        yield opened
