"""Telemetry: what is recorded of every turn, and where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal, Protocol, TypeAlias

# What JSON can hold without loss; Decimal is written as a plain decimal number.
Value: TypeAlias = str | int | float | bool | Decimal | None


@dataclass(frozen=True, slots=True)
class TelemetryEvent:
    """One row of `telemetry_events`. `payload` holds numbers, ids and codes, never text or tokens."""

    type: Literal["openai_call", "error"]
    request_id: str
    user_id: str
    session_id: str | None
    payload: Mapping[str, Value]
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class TelemetrySink(Protocol):
    """Takes telemetry events."""

    def record(self, event: TelemetryEvent) -> None:
        """Take *event*. Never blocks, never raises; called on the event loop."""
        ...
