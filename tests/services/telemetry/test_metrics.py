from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.telemetry import TelemetryEvent, Value
from services.telemetry.metrics import MetricsSink
from services.telemetry.tee import Tee

TURN: Mapping[str, Value] = {
    "provider": "openai",
    "model": "gpt-4o-mini",
    "provider_retry_count": 2,
    "memory_ms": 150,
    "connect_ms": 3,
    "ttft_ms": 300,
    "total_ms": 4200,
    "tokens_in": 5,
    "tokens_out": 15,
    "cached_tokens": 2,
    "estimated": False,
    "cost_usd": Decimal("0.00000975"),
    "finish_reason": "stop",
    "events": 12,
    "disconnected": True,
    "resumed": True,
    "idempotent_replays": 3,
}
OF_MODEL = 'model="gpt-4o-mini",provider="openai"'


def turn(**changes: Value) -> TelemetryEvent:
    return TelemetryEvent("openai_call", "req_1", "alice", None, {**TURN, **changes})


def lines(sink: MetricsSink) -> list[str]:
    return sink.render().decode().splitlines()


def test_a_turn_is_counted() -> None:
    sink = MetricsSink()

    sink.record(turn())

    rendered = lines(sink)
    for line in (
        f'chat_turns_total{{finish_reason="stop",{OF_MODEL}}} 1.0',
        f"chat_provider_retries_total{{{OF_MODEL}}} 2.0",
        f'chat_tokens_total{{kind="in",{OF_MODEL}}} 5.0',
        f'chat_tokens_total{{kind="out",{OF_MODEL}}} 15.0',
        f'chat_tokens_total{{kind="cached",{OF_MODEL}}} 2.0',
        f"chat_cost_usd_total{{{OF_MODEL}}} 9.75e-06",
        "chat_disconnects_total 1.0",
        "chat_resumes_total 1.0",
        "chat_idempotent_replays_total 3.0",
    ):
        assert line in rendered


def test_durations_are_histograms_in_seconds() -> None:
    """The guide's targets are bucket bounds, so that how often they are met can be read off."""
    sink = MetricsSink()

    sink.record(turn())

    rendered = lines(sink)
    for line in (
        f'chat_ttft_seconds_bucket{{le="0.2",{OF_MODEL}}} 0.0',
        f'chat_ttft_seconds_bucket{{le="0.35",{OF_MODEL}}} 1.0',
        f"chat_ttft_seconds_sum{{{OF_MODEL}}} 0.3",
        f"chat_total_seconds_sum{{{OF_MODEL}}} 4.2",
        'chat_connect_seconds_sum{provider="openai"} 0.003',
        'chat_memory_seconds_bucket{le="0.2"} 1.0',
        "chat_memory_seconds_sum 0.15",
    ):
        assert line in rendered


def test_an_error_is_counted_by_code_and_phase() -> None:
    sink = MetricsSink()

    for code, phase in (
        ("OPENAI_TIMEOUT", "first_token"),
        ("OPENAI_TIMEOUT", "first_token"),
        ("RATE_LIMIT", None),
    ):
        payload: dict[str, Value] = {"code": code, "phase": phase, "status": None}
        sink.record(TelemetryEvent("error", "req_1", "alice", None, payload))

    rendered = lines(sink)
    assert 'chat_errors_total{code="OPENAI_TIMEOUT",phase="first_token"} 2.0' in rendered
    assert 'chat_errors_total{code="RATE_LIMIT",phase="none"} 1.0' in rendered


def test_what_a_turn_did_not_have_is_not_counted_as_zero() -> None:
    """A turn that failed before its first token would otherwise look like the fastest of all."""
    sink = MetricsSink()

    sink.record(turn(ttft_ms=None, memory_ms=None, connect_ms=None, cost_usd=None))

    rendered = lines(sink)
    assert f"chat_ttft_seconds_count{{{OF_MODEL}}} 0.0" in rendered
    assert "chat_memory_seconds_count 0.0" in rendered
    assert f"chat_turns_unpriced_total{{{OF_MODEL}}} 1.0" in rendered


@pytest.mark.parametrize(
    "payload",
    [
        {},
        dict.fromkeys(TURN),
        {**TURN, "tokens_in": -1, "total_ms": float("nan"), "cost_usd": Decimal("-1")},
        {**TURN, "provider": 7, "model": 'x"\n{', "tokens_in": "five"},
    ],
)
def test_no_payload_makes_it_raise_or_breaks_the_format(payload: Mapping[str, Value]) -> None:
    sink = MetricsSink()

    sink.record(TelemetryEvent("openai_call", "req_1", "alice", None, payload))
    sink.record(TelemetryEvent("error", "req_1", "alice", None, payload))

    families = {f.name: f for f in text_string_to_metric_families(sink.render().decode())}
    assert sum(sample.value for sample in families["chat_turns"].samples) == 1


def test_model_names_cannot_fill_the_memory() -> None:
    """They come from upstream, and each makes new series."""
    sink = MetricsSink()

    for n in range(1_000):
        sink.record(turn(model=f"model-{n}"))

    families = {f.name: f for f in text_string_to_metric_families(sink.render().decode())}
    samples = families["chat_turns"].samples
    assert len(samples) == 51
    assert {s.value for s in samples if s.labels["model"] == "other"} == {950.0}


def test_a_registered_gauge_is_read_at_each_rendering() -> None:
    sink, streams = MetricsSink(), [1, 2, 3]
    sink.register("chat_open_streams", "Streams that run now.", lambda: len(streams))
    before = lines(sink)

    streams.pop()

    assert "# TYPE chat_open_streams gauge" in before
    assert "chat_open_streams 3.0" in before
    assert "chat_open_streams 2.0" in lines(sink)


def test_a_registered_counter_has_the_name_of_one() -> None:
    sink = MetricsSink()

    sink.register("telemetry_dropped", "Rows that were dropped.", lambda: 7, kind="counter")

    assert "# TYPE telemetry_dropped_total counter" in lines(sink)
    assert "telemetry_dropped_total 7.0" in lines(sink)


def test_a_name_is_registered_once() -> None:
    sink = MetricsSink()
    sink.register("chat_open_streams", "Streams that run now.", lambda: 0)

    with pytest.raises(ValueError, match="chat_open_streams"):
        sink.register("chat_open_streams", "Streams that run now.", lambda: 1)


def test_two_instances_share_nothing() -> None:
    one, other = MetricsSink(), MetricsSink()

    one.record(turn())

    assert not [line for line in lines(other) if line.startswith("chat_turns_total{")]


def test_every_metric_parses_and_says_what_it_is() -> None:
    sink = MetricsSink()
    sink.record(turn())

    families = list(text_string_to_metric_families(sink.render().decode()))

    assert all(family.documentation for family in families)
    assert not [family.name for family in families if family.name.endswith("_created")]


def test_a_tee_hands_an_event_to_every_sink() -> None:
    one, other = MetricsSink(), MetricsSink()

    Tee(one, other).record(turn())

    for sink in (one, other):
        assert "chat_disconnects_total 1.0" in lines(sink)
