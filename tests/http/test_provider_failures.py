"""A real provider's every misbehaviour, from its bytes to the user's and to the rows in SQL."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from chat_client import ChatClient, events, texts
from databases import Database
from loguru import logger
from upstream import (
    DONE,
    Script,
    Upstream,
    anthropic,
    babbles,
    chunk,
    data,
    drips,
    drops,
    gzips,
    hangs,
    openai,
    openai_events,
    refuses,
    resets,
    role_chunk,
    sends,
    usage_chunk,
)

SORRY = "Server error, please try again later."
BUSY = "Overloaded, please try again soon."
LATE = "Request timed out. Please try again with a shorter message."


async def rows_of(url: str, number: int) -> list[tuple[str, dict[str, Any]]]:
    """Type and payload of the rows, once there are so many: the oldest first."""
    async with Database(url) as database, asyncio.timeout(30):
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


@pytest.fixture
def warnings() -> Iterator[list[dict[str, Any]]]:
    """What was logged above INFO."""
    records: list[dict[str, Any]] = []
    handler = logger.add(
        lambda line: records.append({"message": line.record["message"], **line.record["extra"]}),
        level="WARNING",
    )
    yield records
    logger.remove(handler)


@pytest.fixture
def settings(upstream: Upstream) -> dict[str, str]:
    return {
        "OPENAI_API_KEY": "planted",
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_FIRST_TOKEN_TIMEOUT_MS": "20000",
    }


HURRIED = {"OPENAI_FIRST_TOKEN_TIMEOUT_MS": "200", "OPENAI_IDLE_TIMEOUT_MS": "200"}
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
    settings: dict[str, str],
    first: Script,
    retries: int,
) -> None:
    upstream.plays(first, openai("Hello", " world"))
    client: ChatClient = await serving(settings)

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
            {"OPENAI_TOTAL_TIMEOUT_MS": "300"},
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
    settings: dict[str, str],
    warnings: list[dict[str, Any]],
    script: Script,
    variables: dict[str, str],
    sentence: str,
    requests: int,
    error: dict[str, Any],
) -> None:
    upstream.plays(script)
    client: ChatClient = await serving(settings | variables)

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
    settings: dict[str, str],
    script: Script,
    sentence: str,
    phase: str,
) -> None:
    upstream.plays(script)
    client: ChatClient = await serving(settings | {"OPENAI_IDLE_TIMEOUT_MS": "200"})

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
    assert row["cost_usd"] == _price(row) == Decimal(str(usage[1]["cost_usd"]))


async def test_an_answer_nobody_waits_for_is_billed_as_far_as_it_came(
    serving: Callable[..., Any],
    upstream: Upstream,
    environment: dict[str, str],
    settings: dict[str, str],
) -> None:
    upstream.plays(hangs(chunk("Hello"), chunk(" world")))
    client: ChatClient = await serving(settings)

    async with client.stream("hi") as stream:
        while b"world" not in await stream.next_event():
            pass
    await upstream.abandoned()
    ((_, row),) = await rows_of(environment["DATABASE_URL"], 1)

    assert (row["finish_reason"], row["disconnected"]) == ("aborted", True)
    assert row["estimated"] is True
    assert row["tokens_in"] > 0
    assert row["tokens_out"] > 0
    assert row["cost_usd"] == _price(row)


def _price(row: dict[str, Any]) -> Decimal:
    """What gpt-4o-mini takes for the tokens of *row*."""
    return (Decimal("0.15") * row["tokens_in"] + Decimal("0.60") * row["tokens_out"]) / 1_000_000


async def test_cached_tokens_have_their_own_price_and_an_unknown_model_none(
    serving: Callable[..., Any],
    upstream: Upstream,
    environment: dict[str, str],
    settings: dict[str, str],
    warnings: list[dict[str, Any]],
) -> None:
    said = [chunk("Hi"), chunk(reason="stop")]
    unknown = [*openai_events("Hi", usage=None)[:-1], _usage_of("some-model", 5, 2), DONE]
    upstream.plays(
        sends([*said, usage_chunk(1000, 10, cached=800, reasoning=4), DONE]), sends(unknown)
    )
    client: ChatClient = await serving(settings)

    for _ in range(3):
        reply = await client.ask("hi")
    rows = [row for _, row in await rows_of(environment["DATABASE_URL"], 3)]

    assert events(reply.body)[-2][1]["cost_usd"] is None
    assert [row["cost_usd"] for row in rows] == [Decimal("0.000096"), None, None]
    assert [row["cached_tokens"] for row in rows] == [800, 0, 0]
    assert [row["model"] for row in rows] == ["gpt-4o-mini-2024-07-18", "some-model", "some-model"]
    assert [line["model"] for line in warnings if line["message"] == "Model has no price"] == [
        "some-model"
    ]


def _usage_of(model: str, tokens_in: int, tokens_out: int) -> bytes:
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
    return data({"model": model, "choices": [], "usage": usage})


async def test_a_price_file_decides(
    serving: Callable[..., Any],
    upstream: Upstream,
    environment: dict[str, str],
    settings: dict[str, str],
    tmp_path: Path,
) -> None:
    path = tmp_path / "prices.json"
    path.write_text('{"gpt-4o-mini": {"input": 1, "output": 0.1}}')
    client: ChatClient = await serving(settings | {"PRICE_FILE": str(path)})

    reply = await client.ask("hi")
    ((_, row),) = await rows_of(environment["DATABASE_URL"], 1)

    assert events(reply.body)[-2][1]["cost_usd"] == 0.0000052
    assert row["cost_usd"] == Decimal("0.0000052")


async def test_a_wrong_key_sends_turns_to_the_next_provider_and_soon_straight_there(
    serving: Callable[..., Any],
    upstream: Upstream,
    environment: dict[str, str],
    settings: dict[str, str],
    warnings: list[dict[str, Any]],
) -> None:
    """Users notice nothing, so the operator has to be told."""
    upstream.plays(refuses(401))
    async with Upstream() as other:
        other.plays(anthropic("Hello", " world"))
        client: ChatClient = await serving(
            settings
            | {
                "PROVIDERS": "openai,anthropic",
                "ANTHROPIC_API_KEY": "planted-too",
                "ANTHROPIC_BASE_URL": other.url,
            }
        )
        assert await _breakers(client) == {"openai": 0.0, "anthropic": 0.0}

        replies = [await client.ask("hi") for _ in range(7)]
        rows = [row for _, row in await rows_of(environment["DATABASE_URL"], 7)]

        assert [texts(reply.body) for reply in replies] == [TOLD] * 7
        assert (len(upstream.requests), len(other.requests)) == (5, 7)
        assert [row["provider_retry_count"] for row in rows] == [1, 1, 1, 1, 1, 0, 0]
        assert {row["provider"] for row in rows} == {"anthropic"}
        assert await _breakers(client) == {"openai": 1.0, "anthropic": 0.0}
    passed_over = [line for line in warnings if line["message"] == "Provider passed over"]
    assert len(passed_over) == 5
    assert (passed_over[0]["provider"], passed_over[0]["next"]) == ("openai", "anthropic")
    assert passed_over[0]["status"] == 401
    assert "check the API key" in passed_over[0]["reason"]
    assert [line["provider"] for line in warnings if line["message"].endswith("opened")] == [
        "openai"
    ]


async def _breakers(client: ChatClient) -> dict[str, float]:
    """Whether the breakers are open, by provider."""
    reply = await client.send("GET", "/metrics")
    found = re.findall(r"^chat_(\w+)_breaker_open (\S+)$", reply.body.decode(), re.MULTILINE)
    return {name: float(value) for name, value in found}


async def test_a_turn_that_met_no_provider_says_which_model_it_would_have_been(
    serving: Callable[..., Any], environment: dict[str, str], unused_port: int
) -> None:
    client: ChatClient = await serving(
        {
            "PROVIDERS": "anthropic",
            "ANTHROPIC_API_KEY": "planted",
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{unused_port}/v1",
            "ANTHROPIC_MODEL": "claude-haiku-4-5",
            "ANTHROPIC_RETRY_BASE_MS": "1",
        }
    )

    reply = await client.ask("hi")
    (_, row), (_, failure) = await rows_of(environment["DATABASE_URL"], 2)

    assert events(reply.body)[0] == ("token", {"text": SORRY})
    assert (row["provider"], row["model"]) == ("anthropic", "claude-haiku-4-5")
    assert (row["tokens_in"], row["tokens_out"], row["cost_usd"]) == (0, 0, 0)
    assert (failure["code"], failure["phase"]) == ("SERVER_ERROR", "connect")
