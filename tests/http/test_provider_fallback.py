"""Several providers: who answers, what the rows say, and what the operator is told."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from chat_client import ChatClient, events, texts
from replies import anthropic, hangs, refuses
from telemetry_rows import rows_of
from upstream import Upstream

SORRY = "Server error, please try again later."
TOLD = "Hello world"


async def test_a_wrong_key_sends_turns_to_the_next_provider_and_soon_straight_there(
    serving: Callable[..., Any],
    upstream: Upstream,
    environment: dict[str, str],
    asking: dict[str, str],
    warnings: list[dict[str, Any]],
) -> None:
    """Users notice nothing, so the operator has to be told."""
    upstream.plays(refuses(401))
    async with Upstream() as other:
        other.plays(anthropic("Hello", " world"))
        client: ChatClient = await serving(asking | _then_anthropic(other.url))
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


async def test_a_provider_with_little_time_leaves_the_next_one_its_own(
    serving: Callable[..., Any],
    upstream: Upstream,
    environment: dict[str, str],
    asking: dict[str, str],
) -> None:
    upstream.plays(hangs())
    async with Upstream() as other:
        other.plays(anthropic("Hello", " world"))
        client: ChatClient = await serving(
            asking | _then_anthropic(other.url) | {"OPENAI_TOTAL_TIMEOUT_MS": "100"}
        )

        reply = await client.ask("hi")
        ((_, row),) = await rows_of(environment["DATABASE_URL"], 1)

    assert texts(reply.body) == TOLD
    assert (row["provider"], row["provider_retry_count"]) == ("anthropic", 1)


async def test_when_both_fail_the_row_has_the_names_of_the_last(
    serving: Callable[..., Any],
    upstream: Upstream,
    environment: dict[str, str],
    asking: dict[str, str],
    unused_port: int,
) -> None:
    upstream.plays(refuses(401))
    client: ChatClient = await serving(
        asking
        | _then_anthropic(f"http://127.0.0.1:{unused_port}/v1")
        | {"ANTHROPIC_MODEL": "claude-haiku-4-5", "ANTHROPIC_RETRY_BASE_MS": "1"}
    )

    await client.ask("hi")
    (_, row), (_, failure) = await rows_of(environment["DATABASE_URL"], 2)

    assert (row["provider"], row["model"]) == ("anthropic", "claude-haiku-4-5")
    assert failure["provider"] == "anthropic"
    assert (row["tokens_in"], row["tokens_out"], row["cost_usd"]) == (0, 0, 0)


def _then_anthropic(url: str) -> dict[str, str]:
    """Variables that have Anthropic, at *url*, answer when OpenAI does not."""
    return {
        "PROVIDERS": "openai,anthropic",
        "ANTHROPIC_API_KEY": "planted-too",
        "ANTHROPIC_BASE_URL": url,
    }


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
