"""What tests of middleware share: the loop, the log as records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger as log


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """Every log record written while the test runs, oldest first."""
    records: list[dict[str, Any]] = []
    sink = log.add(lambda message: records.append(message.record), level="DEBUG")
    yield records
    log.remove(sink)
