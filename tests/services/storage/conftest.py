from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of this test's own, in each dialect in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/folder/chat.db"
    return str(request.getfixturevalue("postgres_url"))
