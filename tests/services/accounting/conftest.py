from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from logged import logged, phrase_and_fields


@pytest.fixture
def warnings() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """What was warned of: phrases and fields."""
    with logged(phrase_and_fields, "WARNING") as lines:
        yield lines
