"""Prometheus metrics: telemetry events counted up, and gauges that are read when asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, TypeAlias

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.telemetry import TelemetryEvent, Value

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

# Seconds. The guide's targets are bounds: first token within 0.35 (0.5 with memory), memory 0.2.
_SHORT: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1, 2.5, 5, 10, 20)
_LONG: Final = (0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)

_Number: TypeAlias = int | float | Decimal

# A compatible upstream may answer with any model name; each makes a dozen new series for ever.
_MOST_MODELS: Final = 50


class MetricsSink:
    """A telemetry sink that counts, with gauges of the process beside it, in Prometheus' text format.

    Each instance has a registry of its own.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._models: set[str] = set()
        self._series: dict[tuple[str, str], _Series] = {}
        answer = ("provider", "model")
        self._turns = self._counter("chat_turns", "Turns that ended.", *answer, "finish_reason")
        self._errors = self._counter("chat_errors", "Turns that failed.", "code", "phase")
        self._retries = self._counter("chat_provider_retries", "Attempts that failed.", *answer)
        self._tokens = self._counter("chat_tokens", "Tokens used.", *answer, "kind")
        self._cost = self._counter("chat_cost_usd", "What answers cost, in US dollars.", *answer)
        self._unpriced = self._counter("chat_turns_unpriced", "Turns of unknown cost.", *answer)
        self._disconnects = self._counter("chat_disconnects", "Turns whose reader left early.")
        self._resumes = self._counter("chat_resumes", "Turns that were read again.")
        self._replays = self._counter(
            "chat_idempotent_replays", "Requests answered by a running turn."
        )
        self._ttft = self._histogram(
            "chat_ttft_seconds", "Time to the first token.", _SHORT, *answer
        )
        self._total = self._histogram("chat_total_seconds", "Time to the end.", _LONG, *answer)
        self._connect = self._histogram(
            "chat_connect_seconds", "Time to get a socket.", _SHORT, "provider"
        )
        self._memory = self._histogram("chat_memory_seconds", "Time to search memory.", _SHORT)

    def record(self, event: TelemetryEvent) -> None:
        """Count *event*."""
        match event.type:
            case "openai_call":
                self._record_turn(event.payload)
            case "error":
                payload = event.payload
                self._errors.labels(_label(payload, "code"), _label(payload, "phase")).inc()

    def register(
        self,
        name: str,
        documentation: str,
        read: Callable[[], float],
        *,
        kind: Literal["gauge", "counter"] = "gauge",
    ) -> None:
        """Publish *name* with the value *read* has whenever metrics are asked for.

        A *kind* of `counter` only ever grows, and its name gets the suffix `_total`. Raises ValueError
        when the name is taken.
        """
        self._registry.register(_Reading(name, documentation, read, kind))

    def render(self) -> bytes:
        """Everything, in the format of `CONTENT_TYPE`."""
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """What is rendered: everything but the time each series began, which nobody looks at."""
        for metric in self._registry.collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric

    def _record_turn(self, payload: Mapping[str, Value]) -> None:
        answer = (_label(payload, "provider"), self._model(_label(payload, "model")))
        series = self._series.get(answer) or self._new_series(*answer)
        self._turns.labels(*answer, _label(payload, "finish_reason")).inc()
        _count(series.retries, payload, "provider_retry_count")
        _count(series.tokens_in, payload, "tokens_in")
        _count(series.tokens_out, payload, "tokens_out")
        _count(series.cached_tokens, payload, "cached_tokens")
        cost = _amount(payload, "cost_usd")
        if cost is None:
            self._unpriced.labels(*answer).inc()
        else:
            self._cost.labels(*answer).inc(cost)
        _observe(series.ttft, payload, "ttft_ms")
        _observe(series.total, payload, "total_ms")
        _observe(series.connect, payload, "connect_ms")
        _observe(self._memory, payload, "memory_ms")
        if payload.get("disconnected"):
            self._disconnects.inc()
        if payload.get("resumed"):
            self._resumes.inc()
        _count(self._replays, payload, "idempotent_replays")

    def _new_series(self, provider: str, model: str) -> _Series:
        series = _Series(
            retries=self._retries.labels(provider, model),
            tokens_in=self._tokens.labels(provider, model, "in"),
            tokens_out=self._tokens.labels(provider, model, "out"),
            cached_tokens=self._tokens.labels(provider, model, "cached"),
            ttft=self._ttft.labels(provider, model),
            total=self._total.labels(provider, model),
            connect=self._connect.labels(provider),
        )
        self._series[provider, model] = series
        return series

    def _model(self, model: str) -> str:
        if model not in self._models:
            if len(self._models) >= _MOST_MODELS:
                return "other"
            self._models.add(model)
        return model

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(name, documentation, labels, registry=self._registry)

    def _histogram(
        self, name: str, documentation: str, buckets: Sequence[float], *labels: str
    ) -> Histogram:
        return Histogram(name, documentation, labels, buckets=buckets, registry=self._registry)


@dataclass(frozen=True, slots=True)
class _Series:
    """What every answer of a provider's model is counted in: to look each up took twice as long."""

    retries: Counter
    tokens_in: Counter
    tokens_out: Counter
    cached_tokens: Counter
    ttft: Histogram
    total: Histogram
    connect: Histogram


class _Reading(Collector):
    """A metric without state: it is read when it is asked for."""

    def __init__(
        self,
        name: str,
        documentation: str,
        read: Callable[[], float],
        kind: Literal["gauge", "counter"],
    ) -> None:
        self._family = GaugeMetricFamily if kind == "gauge" else CounterMetricFamily
        self._name = name
        self._documentation = documentation
        self._read = read

    def describe(self) -> Iterator[Metric]:
        """The name alone, which the registry checks without reading."""
        yield self._family(self._name, self._documentation)

    def collect(self) -> Iterator[Metric]:
        """The value of this moment."""
        yield self._family(self._name, self._documentation, value=self._read())


def _label(payload: Mapping[str, Value], name: str) -> str:
    return str(payload.get(name) or "none")


def _amount(payload: Mapping[str, Value], name: str) -> float | None:
    """The amount called *name*; None if there is none, or none that can be counted."""
    value = payload.get(name)
    if not isinstance(value, _Number):
        return None
    amount = float(value)
    return amount if 0 <= amount < math.inf else None


def _count(counter: Counter, payload: Mapping[str, Value], name: str) -> None:
    """Add the amount called *name*, if there is one, to *counter*."""
    if amount := _amount(payload, name):
        counter.inc(amount)


def _observe(histogram: Histogram, payload: Mapping[str, Value], name: str) -> None:
    """Put what *name* has, in milliseconds, into *histogram*, in seconds."""
    milliseconds = _amount(payload, name)
    if milliseconds is not None:
        histogram.observe(milliseconds / 1000)
