"""One telemetry sink made of several."""

from __future__ import annotations

from services.telemetry import TelemetryEvent, TelemetrySink


class Tee:
    """Hands every event to each of its sinks."""

    def __init__(self, *sinks: TelemetrySink) -> None:
        self._sinks = sinks

    def record(self, event: TelemetryEvent) -> None:
        """Take *event*."""
        for sink in self._sinks:
            sink.record(event)
