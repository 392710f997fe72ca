"""The rows that turns leave in SQL, and what they should cost."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

from databases import Database
from patience import PATIENCE


async def rows_of(url: str, number: int) -> list[tuple[str, dict[str, Any]]]:
    """Type and payload of the rows, once there are so many: the oldest first."""
    async with Database(url) as database, asyncio.timeout(PATIENCE):
        while True:
            found = await database.fetch_all(
                "SELECT type, payload_json FROM telemetry_events ORDER BY created_at, type DESC"
            )
            if len(found) >= number:
                return [(row["type"], _decoded(row["payload_json"])) for row in found]
            await asyncio.sleep(0.05)


def _decoded(payload: Any) -> dict[str, Any]:
    decoded = json.loads(payload, parse_float=Decimal) if isinstance(payload, str) else payload
    return dict(decoded)


def price_of(row: dict[str, Any]) -> Decimal:
    """What gpt-4o-mini takes for the tokens of *row*."""
    return (Decimal("0.15") * row["tokens_in"] + Decimal("0.60") * row["tokens_out"]) / 1_000_000
