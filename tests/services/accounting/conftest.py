from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger


@pytest.fixture
def warnings() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """What was warned of: phrases and fields."""
    seen: list[tuple[str, dict[str, Any]]] = []

    def note(message: Any) -> None:
        seen.append((message.record["message"], message.record["extra"]))

    handler = logger.add(note, level="WARNING")
    yield seen
    logger.remove(handler)
