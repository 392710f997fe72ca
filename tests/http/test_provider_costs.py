"""What answers of a real provider cost, to the last digit, in SQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from chat_client import ChatClient, events
from dialects import DONE, chunk, data, openai_events, usage_chunk
from replies import hangs
from telemetry_rows import price_of, rows_of
from upstream import Reply, Upstream, sends


async def test_an_answer_nobody_waits_for_is_billed_as_far_as_it_came(
    serving: Callable[..., Any],
    upstream: Upstream,
    environment: dict[str, str],
    asking: dict[str, str],
) -> None:
    upstream.plays(hangs(chunk("Hello"), chunk(" world")))
    client: ChatClient = await serving(asking)

    async with client.stream("hi") as stream:
        while b"world" not in await stream.next_event():
            pass
    await upstream.abandoned()
    ((_, row),) = await rows_of(environment["DATABASE_URL"], 1)

    assert (row["finish_reason"], row["disconnected"]) == ("aborted", True)
    assert row["estimated"] is True
    assert row["tokens_in"] > 0
    assert row["tokens_out"] > 0
    assert row["cost_usd"] == price_of(row)


@pytest.mark.parametrize(
    ("piece", "tokens"),
    [
        pytest.param(None, (7, 0), id="before the headers"),
        pytest.param(
            data({"choices": [], "usage": {"prompt_tokens": 5000, "completion_tokens": 300}}),
            (5000, 300),
            id="after its provider's own count",
        ),
    ],
)
async def test_leaving_before_the_first_word_is_not_free(
    serving: Callable[..., Any],
    upstream: Upstream,
    environment: dict[str, str],
    asking: dict[str, str],
    piece: bytes | None,
    tokens: tuple[int, int],
) -> None:
    """The provider works on the prompt from when it has it, and a budget that overlooks that is none."""
    counted = asyncio.Event()

    async def script(reply: Reply) -> None:
        if piece is not None:
            reply.head()
            reply.send(piece)
        counted.set()
        await asyncio.Event().wait()

    upstream.plays(script)
    client: ChatClient = await serving(asking)

    async with client.stream("hi"):
        await upstream.asked(1)
        await counted.wait()
        await asyncio.sleep(0.1 if piece else 0)  # until it was read, which nobody sees
    await upstream.abandoned()
    ((_, row),) = await rows_of(environment["DATABASE_URL"], 1)

    assert (row["finish_reason"], row["disconnected"]) == ("aborted", True)
    assert (row["tokens_out"], row["estimated"]) == (tokens[1], True)
    assert row["tokens_in"] >= tokens[0]
    assert row["cost_usd"] == price_of(row) > 0


async def test_a_provider_that_never_answered_has_had_the_prompt(
    serving: Callable[..., Any],
    upstream: Upstream,
    environment: dict[str, str],
    asking: dict[str, str],
) -> None:
    upstream.plays(hangs(headers=False))
    client: ChatClient = await serving(asking | {"OPENAI_FIRST_TOKEN_TIMEOUT_MS": "200"})

    await client.ask("hi")
    (_, row), (_, failure) = await rows_of(environment["DATABASE_URL"], 2)

    assert failure["phase"] == "first_token"
    assert (row["tokens_out"], row["estimated"]) == (0, True)
    assert row["tokens_in"] > 0
    assert row["cost_usd"] == price_of(row) > 0


async def test_cached_tokens_have_their_own_price_and_an_unknown_model_none(
    serving: Callable[..., Any],
    upstream: Upstream,
    environment: dict[str, str],
    asking: dict[str, str],
    warnings: list[dict[str, Any]],
) -> None:
    said = [chunk("Hi"), chunk(reason="stop")]
    unknown = [*openai_events("Hi", usage=None)[:-1], _usage_of("some-model", 5, 2), DONE]
    upstream.plays(
        sends([*said, usage_chunk(1000, 10, cached=800, reasoning=4), DONE]), sends(unknown)
    )
    client: ChatClient = await serving(asking)

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
    asking: dict[str, str],
    tmp_path: Path,
) -> None:
    path = tmp_path / "prices.json"
    path.write_text('{"gpt-4o-mini": {"input": 1, "output": 0.1}}')
    client: ChatClient = await serving(asking | {"PRICE_FILE": str(path)})

    reply = await client.ask("hi")
    ((_, row),) = await rows_of(environment["DATABASE_URL"], 1)

    assert events(reply.body)[-2][1]["cost_usd"] == 0.0000052
    assert row["cost_usd"] == Decimal("0.0000052")
