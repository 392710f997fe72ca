"""The queries of docs/telemetry.md, on what the service itself wrote to a real Postgres."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from chat_client import ChatClient
from databases import Database
from dialects import chunk
from replies import hangs, refuses
from telemetry_rows import rows_of
from upstream import Script, Upstream, openai

from blueprints.context import ChatApp
from sanic_server import serve

PAGE = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text("utf-8")
RETRIES, ERRORS = (
    re.findall(r"```sql\n(.*?)```", PAGE.split(f"## {title}\n")[1], re.DOTALL)[0]
    for title in ("Retries by hour", "Errors by hour")
)


async def ask(query: str, url: str) -> list[dict[str, Any]]:
    """The rows of *query*: one for each of the one or two hours in which a test can run."""
    async with Database(url) as database, database.connection() as connection:
        return [dict(row) for row in await connection.raw_connection.fetch(query)]


BUSY = refuses(429, headers={"retry-after-ms": "1"})
# In a hurry for a silence only: what speaks may be slow on a busy machine.
TURNS: list[tuple[dict[str, str], list[list[Script]]]] = [
    (
        {},
        [
            [openai("Hello")],  # no retry
            [refuses(500), openai("Hello")],  # one
            [BUSY],  # two, and then RATE_LIMIT
            [BUSY, refuses(500), openai("Hello")],  # two
            [refuses(401)],  # none, and then SERVER_ERROR
        ],
    ),
    ({"OPENAI_FIRST_TOKEN_TIMEOUT_MS": "200"}, [[hangs()]]),  # two, and then OPENAI_TIMEOUT
    ({"OPENAI_IDLE_TIMEOUT_MS": "200"}, [[hangs(chunk("Hello"))]]),  # none, and OPENAI_TIMEOUT
]


async def test_the_guide_s_queries_tell_what_happened(
    make_app: Callable[..., ChatApp],
    upstream: Upstream,
    asking: dict[str, str],
    bearer: dict[str, str],
    postgres_url: str,
) -> None:
    for hurry, turns in TURNS:
        app = make_app(asking | hurry | {"DATABASE_URL": postgres_url})
        async with serve(app) as server, aiohttp.ClientSession() as session:
            client = ChatClient(session, server, bearer)
            for scripts in turns:
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
