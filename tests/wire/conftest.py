"""The whole service on a real socket, to be spoken to byte by byte."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import pytest

from blueprints.context import ChatApp
from sanic_server import SanicServer, serve

Starting: TypeAlias = Callable[..., Awaitable[SanicServer]]


@pytest.fixture
async def starting(loop: Any, make_app: Callable[..., ChatApp]) -> AsyncIterator[Starting]:
    """Starts the service, with variables and parts."""
    async with AsyncExitStack() as stack:

        async def start(variables: dict[str, str] | None = None, **parts: Any) -> SanicServer:
            return await stack.enter_async_context(serve(make_app(variables, **parts)))

        yield start
