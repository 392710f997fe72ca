"""What tests of middleware share: the loop, the log as records."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger as log


@pytest.fixture(autouse=True)
def _loop(loop: asyncio.AbstractEventLoop) -> None:
    """Async tests run on pytest-sanic's loop, whether or not they name it."""


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """Every log record written while the test runs, oldest first."""
    records: list[dict[str, Any]] = []
    sink = log.add(lambda message: records.append(message.record), level="DEBUG")
    yield records
    log.remove(sink)
