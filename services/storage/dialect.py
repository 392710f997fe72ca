"""Where the SQL of SQLite and Postgres differs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, TypeAlias

from databases import Database

Dialect: TypeAlias = Literal["sqlite", "postgres"]


def dialect_of(database: Database) -> Dialect:
    """Which SQL *database* speaks."""
    return "sqlite" if database.url.dialect == "sqlite" else "postgres"


def utc_text(moment: datetime) -> str:
    """The aware *moment* as SQLite keeps times: UTC text that sorts as time does.

    As wide as what `strftime('%Y-%m-%dT%H:%M:%fZ')` writes, so that both compare. Postgres has
    `timestamptz` and takes the `datetime` itself.
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
