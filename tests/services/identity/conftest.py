"""The loop every async test of identity runs on."""

from __future__ import annotations

import asyncio

import pytest


@pytest.fixture(autouse=True)
def _loop(loop: asyncio.AbstractEventLoop) -> None:
    """Async tests run on pytest-sanic's loop, whether or not they name it."""
