"""What answers of a real provider cost, to the last digit, in SQL."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from chat_client import ChatClient, events
from telemetry_rows import price_of, rows_of
from upstream import (
    DONE,
    Upstream,
    chunk,
    data,
    hangs,
    openai_events,
    sends,
    usage_chunk,
)


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
