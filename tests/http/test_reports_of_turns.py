"""The queries of docs/telemetry.md, on what the service itself wrote to a real Postgres."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chat_client import ChatClient
from databases import Database
from telemetry_rows import rows_of
from upstream import Upstream, chunk, hangs, openai, refuses

PAGE = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text("utf-8")
RETRIES, ERRORS = (
    re.findall(r"```sql\n(.*?)```", PAGE.split(f"## {title}\n")[1], re.DOTALL)[0]
    for title in ("Retries by hour", "Errors by hour")
)


async def ask(query: str, url: str) -> list[dict[str, Any]]:
    """The rows of *query*: one for each of the one or two hours in which a test can run."""
    async with Database(url) as database, database.connection() as connection:
        return [dict(row) for row in await connection.raw_connection.fetch(query)]


async def test_the_guide_s_queries_tell_what_happened(
    serving: Callable[..., Any], upstream: Upstream, asking: dict[str, str], postgres_url: str
) -> None:
    busy = refuses(429, headers={"retry-after-ms": "1"})
    hurried = {"OPENAI_FIRST_TOKEN_TIMEOUT_MS": "300", "OPENAI_IDLE_TIMEOUT_MS": "300"}
    client: ChatClient = await serving(asking | hurried | {"DATABASE_URL": postgres_url})

    for scripts in (
        [openai("Hello")],  # no retry
        [refuses(500), openai("Hello")],  # one
        [busy],  # two, and then RATE_LIMIT
        [busy, refuses(500), openai("Hello")],  # two
        [hangs()],  # two, and then OPENAI_TIMEOUT
        [hangs(chunk("Hello"))],  # none, and then OPENAI_TIMEOUT
        [refuses(401)],  # none, and then SERVER_ERROR
    ):
        upstream.plays(*scripts)
        await client.ask("hi")
    await rows_of(postgres_url, 7 + 4)
    retries = await ask(RETRIES, postgres_url)
    errors = await ask(ERRORS, postgres_url)

    assert sum(hour["total_requests"] for hour in retries) == 7
    assert sum(hour["requests_with_retries"] for hour in retries) == 4
    assert round(sum(hour["avg_retries"] * hour["total_requests"] for hour in retries)) == 7
    assert max(hour["max_retries"] for hour in retries) == 2
    for column, number in (("timeout_errors", 2), ("rate_limit_errors", 1), ("total_errors", 4)):
        assert sum(hour[column] for hour in errors) == number
