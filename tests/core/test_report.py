from __future__ import annotations

from decimal import Decimal

import pytest
from endings import PROMPT
from scripted_provider import USAGE

from services.events import Asked, Attempt, Connected, Finish, Recalled, Retry, TextDelta, Usage
from services.report import Accountant, Report
from services.turn import Turn

TURN = Turn("req_1", "alice", "Hello, how are you?", session_id="session-20250819-143022-a1b2")


class Clock:
    """Says what a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def report(accountant: Accountant, clock: Clock) -> Report:
    return Report(TURN, accountant, clock=clock)


def test_a_turn_is_one_row_with_every_field_of_the_contract(report, clock):
    told = [
        (0.002, Recalled(4, 320, 0.0015)),
        (0.002, Asked(PROMPT)),
        (0.1, Retry("openai", 1, 0.4, "RATE_LIMIT")),
        (0.5, Connected("openai", "gpt-4o-mini", 0.012)),
        (0.7504, TextDelta("Hello")),
        (0.9, TextDelta(" you")),
        (1.0, Usage(1000, 15, "gpt-4o-mini-2024-07-18", cached=400)),
        (1.0, Finish("stop")),
    ]

    for clock.now, event in told:
        report.observe(event)
    report.settle("gpt-4o-mini")
    report.events = 4

    [row] = report.telemetry()
    assert (row.type, row.request_id, row.user_id) == ("openai_call", "req_1", "alice")
    assert row.session_id == "session-20250819-143022-a1b2"
    assert row.payload == {
        "provider": "openai",
        "model": "gpt-4o-mini-2024-07-18",
        "provider_retry_count": 1,
        "memory_ms": 1.5,
        "memory_degraded": False,
        "connect_ms": 12.0,
        "ttft_ms": 750.4,
        "total_ms": 1000.0,
        "tokens_in": 1000,
        "tokens_out": 15,
        "cached_tokens": 400,
        "cache_write_tokens": 0,
        "estimated": False,
        # 600 at 0.15, 400 at 0.075 and 15 at 0.60 dollars per million
        "cost_usd": Decimal("0.000129"),
        "finish_reason": "stop",
        "events": 4,
        "disconnected": False,
        "resumed": 0,
        "idempotent_replays": 0,
    }


def test_a_failure_is_two_rows(report):
    report.observe(Retry("openai", 1, 0.4, "RATE_LIMIT"))
    report.observe(
        Finish("error", code="RATE_LIMIT", status=429, phase="headers", retry_after_ms=90_000)
    )
    report.settle("gpt-4o-mini")

    call, error = report.telemetry()
    assert call.type == "openai_call"
    assert call.payload["finish_reason"] == "error"
    assert error.type == "error"
    assert error.payload == {
        "code": "RATE_LIMIT",
        "status": 429,
        "phase": "headers",
        "provider": "openai",
        "retry_after_ms": 90_000,
    }


def test_an_abort_is_no_error(report):
    report.observe(Finish("aborted"))

    assert [row.type for row in report.telemetry()] == ["openai_call"]


def test_the_providers_own_count_is_believed(report):
    report.observe(TextDelta("a great many words"))
    report.observe(USAGE)

    usage = report.settle("gpt-4o")

    assert (usage.tokens_in, usage.tokens_out, usage.estimated) == (5, 15, False)
    assert usage.cost_usd == Decimal("0.00000975")


def test_what_was_cut_is_counted_here_and_marked(report):
    for event in (
        Asked(PROMPT),
        Connected("openai", "gpt-4o", 0.0),
        TextDelta("Hel"),
        TextDelta("lo"),
    ):
        report.observe(event)

    usage = report.settle("gpt-4o-mini")

    # 3 + (4 + 9 bytes) + (4 + 19 bytes), four bytes a token; the answer is counted as one text.
    assert (usage.tokens_in, usage.tokens_out) == (19, 2)
    assert (usage.model, usage.estimated) == ("gpt-4o", True)
    assert usage.cost_usd == Decimal("0.0000675")


def test_a_prompt_that_no_provider_took_costs_nothing(report):
    report.observe(Asked(PROMPT))

    usage = report.settle("gpt-4o-mini")

    assert (usage.tokens_in, usage.tokens_out, usage.cost_usd) == (0, 0, Decimal(0))
    assert usage.estimated


def test_a_connection_that_failed_again_took_no_prompt(report):
    for event in (
        Asked(PROMPT),
        Connected("openai", "gpt-4o", 0.0),
        Retry("openai", 1, 0.1, "SERVER_ERROR"),
    ):
        report.observe(event)

    assert report.settle("gpt-4o-mini").tokens_in == 0


@pytest.mark.parametrize(
    ("finish", "tokens_in"),
    [
        (Finish("aborted"), 19),
        (Finish("error", phase="first_token"), 19),
        (Finish("error", phase="headers"), 19),
        (Finish("error", phase="stream", status=500), 19),
        (Finish("error", phase="headers", status=429), 0),
    ],
)
def test_a_prompt_that_went_out_counts_unless_it_was_refused(report, finish, tokens_in):
    """A user who always leaves before the first word would otherwise never use up a budget."""
    for event in (Asked(PROMPT), Connected("openai", "gpt-4o", 0.0), finish):
        report.observe(event)

    assert report.settle("gpt-4o-mini").tokens_in == tokens_in


def test_an_attempt_that_never_had_a_connection_took_no_prompt_and_has_its_names(report):
    for event in (
        Asked(PROMPT),
        Attempt("openai", "gpt-4o"),
        Connected("openai", "gpt-4o", 0.0),
        Retry("openai", 1, 0.0, "SERVER_ERROR"),
        Attempt("anthropic", "claude-haiku-4-5"),
        Finish("error", phase="connect", provider="anthropic"),
    ):
        report.observe(event)
    report.settle("gpt-4o-mini")

    fields = report.fields()
    assert (fields["provider"], fields["model"]) == ("anthropic", "claude-haiku-4-5")
    assert (fields["tokens_in"], fields["cost_usd"]) == (0, 0)


@pytest.mark.parametrize(("so_far", "tokens_out"), [(1, 2), (300, 300)])
def test_what_the_provider_had_counted_when_it_was_cut_is_believed(report, so_far, tokens_out):
    for event in (
        Asked(PROMPT),
        Connected("openai", "gpt-4o", 0.0),
        Usage(132, so_far, "gpt-4o", cached=100, estimated=True),
        TextDelta("Hello"),
    ):
        report.observe(event)

    for _ in range(2):
        usage = report.settle("gpt-4o-mini")
        assert (usage.tokens_in, usage.cached, usage.tokens_out) == (132, 100, tokens_out)
        assert usage.estimated


def test_what_a_failed_attempt_had_counted_is_not_the_next_one_s(report):
    for event in (
        Asked(PROMPT),
        Connected("anthropic", "claude-haiku-4-5", 0.0),
        Usage(132, 1, "claude-haiku-4-5", estimated=True),
        Retry("anthropic", 1, 0.1, "SERVER_ERROR"),
        Connected("openai", "gpt-4o", 0.0),
    ):
        report.observe(event)

    assert report.settle("gpt-4o-mini").tokens_in == 19


def test_a_model_without_a_price_costs_null_and_not_nothing(report):
    report.observe(Usage(5, 15, "own-model"))

    assert report.settle("gpt-4o-mini").cost_usd is None
    assert report.fields()["cost_usd"] is None


def test_settling_twice_changes_nothing(report):
    report.observe(TextDelta("Hello"))

    assert report.settle("gpt-4o-mini") == report.settle("gpt-4o-mini")


def test_no_row_holds_a_word_of_the_conversation(report):
    for event in (Asked(PROMPT), Connected("openai", "gpt-4o", 0.0), TextDelta("secret-answer")):
        report.observe(event)
    report.observe(Finish("error", code="SERVER_ERROR", phase="stream"))
    report.settle("gpt-4o-mini")

    recorded = str(report.telemetry())

    assert "secret-answer" not in recorded
    assert "how are you" not in recorded
    assert "Be brief" not in recorded
