"""What tests of middleware share: the loop, the log as records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from logged import logged


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """Every log record written while the test runs, oldest first."""
    with logged(dict, "DEBUG") as records:
        yield records
