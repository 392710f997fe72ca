"""A real provider's every misbehaviour, from its bytes to the user's and to the rows in SQL."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from email.utils import formatdate
from typing import Any

import pytest
from chat_client import ChatClient, events, texts
from dialects import DONE, chunk, data, openai_events, role_chunk
from replies import answers, babbles, drips, drops, gzips, hangs, refuses, resets
from telemetry_rows import price_of, rows_of
from upstream import Script, Upstream, openai, sends

SORRY = "Server error, please try again later."
BUSY = "Overloaded, please try again soon."
LATE = "Request timed out. Please try again with a shorter message."
HURRIED = {"OPENAI_FIRST_TOKEN_TIMEOUT_MS": "200"}
TOLD = "Hello world"


@pytest.mark.parametrize(
    ("first", "retries"),
    [
        pytest.param(openai("Hello", " world"), 0, id="nothing"),
        pytest.param(drips(b"".join(openai_events("Hello", " world"))), 0, id="a drip of bytes"),
        pytest.param(gzips(b"".join(openai_events("Hello", " world"))), 0, id="gzip"),
        pytest.param(refuses(500), 1, id="500, then 200"),
        pytest.param(refuses(429, headers={"retry-after": "0"}), 1, id="429, seconds"),
        pytest.param(refuses(429, headers={"retry-after-ms": "30"}), 1, id="429, milliseconds"),
        pytest.param(
            refuses(429, headers={"retry-after": formatdate(usegmt=True)}), 1, id="429, a date"
        ),
        pytest.param(
            sends([data({"error": {"type": "server_error"}})]), 1, id="error object first"
        ),
        pytest.param(drops(headers=False), 1, id="cut before headers"),
        pytest.param(drops(role_chunk()), 1, id="cut before the first word"),
    ],
)
async def test_what_ends_well(
    serving: Callable[..., Any],
    upstream: Upstream,
    environment: dict[str, str],
    asking: dict[str, str],
    first: Script,
    retries: int,
) -> None:
    upstream.plays(first, openai("Hello", " world"))
    client: ChatClient = await serving(asking)

    reply = await client.ask("hi")
    ((kind, row),) = await rows_of(environment["DATABASE_URL"], 1)

    assert texts(reply.body) == TOLD
    assert events(reply.body)[-2:] == [
        (
            "usage",
            {
                "tokens_in": 5,
                "tokens_out": 2,
                "cost_usd": 0.00000195,
                "model": "gpt-4o-mini-2024-07-18",
            },
        ),
        ("done", {"finish_reason": "stop"}),
    ]
    assert kind == "openai_call"
    assert row["provider_retry_count"] == retries == len(upstream.requests) - 1
    assert row["cost_usd"] == Decimal("0.00000195")
    assert (row["tokens_in"], row["tokens_out"], row["estimated"]) == (5, 2, False)


@pytest.mark.parametrize(
    ("script", "variables", "sentence", "requests", "error"),
    [
        pytest.param(
            refuses(429, error={"code": "insufficient_quota"}),
            {},
            BUSY,
            1,
            {"code": "RATE_LIMIT", "status": 429, "phase": "headers"},
            id="insufficient_quota",
        ),
        pytest.param(
            refuses(429, headers={"retry-after-ms": "1"}),
            {},
            BUSY,
            3,
            {"code": "RATE_LIMIT", "status": 429, "phase": "headers", "retry_after_ms": 1},
            id="429 for good",
        ),
        pytest.param(
            refuses(429, headers={"retry-after": "3600"}),
            {},
            BUSY,
            1,
            {"code": "RATE_LIMIT", "status": 429, "phase": "headers", "retry_after_ms": 3_600_000},
            id="429 for longer than there is time",
        ),
        pytest.param(
            refuses(429, headers={"retry-after": "1e306"}),
            {},
            BUSY,
            3,
            {"code": "RATE_LIMIT", "status": 429, "phase": "headers", "retry_after_ms": None},
            id="429 for ever",
        ),
        pytest.param(
            answers(b"<html>", headers={"content-type": "text/html"}),
            {},
            SORRY,
            1,
            {"code": "SERVER_ERROR", "status": None, "phase": "headers"},
            id="a web page",
        ),
        pytest.param(
            refuses(503),
            {},
            SORRY,
            3,
            {"code": "SERVER_ERROR", "status": 503, "phase": "headers"},
            id="5xx for good",
        ),
        pytest.param(
            refuses(401),
            {},
            SORRY,
            1,
            {"code": "SERVER_ERROR", "status": 401, "phase": "headers"},
            id="a bad key",
        ),
        pytest.param(
            hangs(headers=False),
            HURRIED,
            LATE,
            3,
            {"code": "OPENAI_TIMEOUT", "status": None, "phase": "first_token"},
            id="hangs before headers",
        ),
        pytest.param(
            hangs(),
            HURRIED,
            LATE,
            3,
            {"code": "OPENAI_TIMEOUT", "status": None, "phase": "first_token"},
            id="hangs after headers",
        ),
        pytest.param(
            hangs(),
            {"OPENAI_TOTAL_TIMEOUT_MS": "2000"},
            LATE,
            1,
            {"code": "OPENAI_TIMEOUT", "status": None, "phase": "total"},
            id="the whole answer takes too long",
        ),
        pytest.param(
            sends([b'data: {"choices":[{"delta":\n\n']),
            {},
            SORRY,
            3,
            {"code": "SERVER_ERROR", "status": None, "phase": "stream"},
            id="malformed JSON",
        ),
        pytest.param(
            sends([b"x" * 65_536] * 17),
            {},
            SORRY,
            3,
            {"code": "SERVER_ERROR", "status": None, "phase": "stream"},
            id="a huge line",
        ),
        pytest.param(
            sends([role_chunk()]),
            {},
            SORRY,
            3,
            {"code": "SERVER_ERROR", "status": None, "phase": "stream"},
            id="a clean end without a word",
        ),
    ],
)
async def test_what_fails_before_the_first_word_is_one_sentence_and_done(
    serving: Callable[..., Any],
    upstream: Upstream,
    environment: dict[str, str],
    asking: dict[str, str],
    warnings: list[dict[str, Any]],
    script: Script,
    variables: dict[str, str],
    sentence: str,
    requests: int,
    error: dict[str, Any],
) -> None:
    upstream.plays(script)
    client: ChatClient = await serving(asking | variables)

    reply = await client.ask("hi")
    (kind, row), (other, failure) = await rows_of(environment["DATABASE_URL"], 2)

    assert events(reply.body) == [
        ("token", {"text": sentence}),
        ("done", {"finish_reason": "error", "code": error["code"]}),
    ]
    assert len(upstream.requests) == requests
    assert (kind, other) == ("openai_call", "error")
    assert (row["finish_reason"], row["provider_retry_count"]) == ("error", requests - 1)
    assert failure == {"provider": "openai", "retry_after_ms": None, **error}
    (line,) = [line for line in warnings if line["message"] == "SSE stream error"]
    assert (line["code"], line["phase"], line["status"]) == (
        error["code"],
        error["phase"],
        error["status"],
    )
    assert ("check the API key" in line["reason"]) == (error["status"] == 401)


@pytest.mark.parametrize(
    ("script", "sentence", "phase"),
    [
        pytest.param(resets(chunk("Hello")), SORRY, "stream", id="reset"),
        pytest.param(drops(chunk("Hello")), SORRY, "stream", id="cut chunked body"),
        pytest.param(sends([chunk("Hello")]), SORRY, "stream", id="a clean end"),
        pytest.param(sends([chunk("Hello"), DONE]), SORRY, "stream", id="DONE without a reason"),
        pytest.param(babbles(chunk("Hello")), SORRY, "stream", id="broken framing"),
        pytest.param(sends([chunk("Hello"), b"data: {\n\n"]), SORRY, "stream", id="malformed JSON"),
        pytest.param(
            sends([chunk("Hello"), data({"error": {"type": "server_error"}})]),
            SORRY,
            "stream",
            id="an error object",
        ),
        pytest.param(hangs(chunk("Hello")), LATE, "idle", id="silence"),
    ],
)
async def test_what_fails_after_the_first_word_is_told_counted_and_never_tried_again(
    serving: Callable[..., Any],
    upstream: Upstream,
    environment: dict[str, str],
    asking: dict[str, str],
    script: Script,
    sentence: str,
    phase: str,
) -> None:
    upstream.plays(script)
    # What breaks must not be taken for a silence, however long this machine takes to notice.
    idle = {"OPENAI_IDLE_TIMEOUT_MS": "200"} if phase == "idle" else {}
    client: ChatClient = await serving(asking | idle)

    reply = await client.ask("hi")
    (_, row), (_, failure) = await rows_of(environment["DATABASE_URL"], 2)

    hello, told, usage, done = events(reply.body)
    assert (hello, told) == (
        ("token", {"text": "Hello"}),
        ("token", {"text": f"\n\n{sentence}"}),
    )
    assert usage[0] == "usage"
    assert usage[1]["estimated"] is True
    assert done == ("done", {"finish_reason": "error", "code": failure["code"]})
    assert failure["phase"] == phase
    assert len(upstream.requests) == 1
    # Billed: by the same numbers that the user was shown.
    assert row["estimated"] is True
    assert row["tokens_in"] == usage[1]["tokens_in"] > 0
    assert row["tokens_out"] == usage[1]["tokens_out"] > 0
    assert row["cost_usd"] == price_of(row) == Decimal(str(usage[1]["cost_usd"]))
