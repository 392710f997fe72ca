"""The database goes away and comes back: no stream notices, no row is lost."""

from __future__ import annotations

import asyncio

from chat_client import ChatClient, events
from databases import Database
from patience import PATIENCE
from postgres import PostgresServer
from scripted_provider import STOP, USAGE, ScriptedProvider

from services.events import TextDelta

SESSION = "session-20250819-143022-a1b2"


async def rows(url: str) -> dict[str, int]:
    """How many telemetry rows there are of each type."""
    async with Database(url) as database:
        found = await database.fetch_all(
            "SELECT type, count(*) AS number FROM telemetry_events GROUP BY type"
        )
    return {row["type"]: row["number"] for row in found}


async def rows_settled(url: str, number: int) -> dict[str, int]:
    """Wait until there are so many rows."""
    async with asyncio.timeout(PATIENCE):
        while sum((found := await rows(url)).values()) < number:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.1)
    return found


async def test_killing_postgres_disturbs_no_stream_and_loses_no_row(
    serving, postgres_server: PostgresServer, postgres_url: str
):
    release = asyncio.Event()
    provider = ScriptedProvider((TextDelta("Hello"),), release, (TextDelta(" again"), USAGE, STOP))
    client: ChatClient = await serving({"DATABASE_URL": postgres_url}, provider=provider)

    async with client.stream("before") as running:
        assert await running.next_event() == b'event: token\ndata: {"text":"Hello"}\n\n'
        await asyncio.to_thread(postgres_server.kill)
        release.set()
        rest = await running.rest()
    during = [
        await client.ask(f"during {number}", sessionId=SESSION, useMemory=True)
        for number in range(5)
    ]
    await asyncio.to_thread(postgres_server.start)
    found = await rows_settled(postgres_url, 6)

    assert events(rest)[-1] == ("done", {"finish_reason": "stop"})
    assert [events(reply.body)[-1] for reply in during] == [("done", {"finish_reason": "stop"})] * 5
    assert found == {"openai_call": 6}


async def test_every_turn_is_one_row_and_every_failure_one_more(serving, postgres_url: str):
    client: ChatClient = await serving({"DATABASE_URL": postgres_url})
    await client.ask("fine")
    for scenario in ("timeout", "rate_limit", "retry_then_ok", "cut_mid_stream"):
        await client.ask("hi", headers={"X-Test-Scenario": scenario})
    await rows_settled(postgres_url, 8)

    async with Database(postgres_url) as database:
        errors = await database.fetch_all(
            "SELECT payload_json->>'code' AS code, payload_json->>'phase' AS phase"
            " FROM telemetry_events WHERE type = 'error' ORDER BY created_at"
        )
        retries = await database.fetch_all(
            "SELECT (payload_json->>'provider_retry_count')::int AS retries"
            " FROM telemetry_events WHERE type = 'openai_call' ORDER BY created_at"
        )

    assert [row["code"] for row in errors] == ["OPENAI_TIMEOUT", "RATE_LIMIT", "SERVER_ERROR"]
    assert errors[0]["phase"] == "first_token"
    assert [row["retries"] for row in retries] == [0, 2, 2, 1, 0]


async def test_what_is_stored_answers_503_while_postgres_is_away_and_then_again(
    serving, postgres_server: PostgresServer, postgres_url: str
):
    """A conversation that can't be looked up is not one that doesn't exist."""
    client: ChatClient = await serving({"DATABASE_URL": postgres_url})
    await client.ask("before", sessionId=SESSION)
    await rows_settled(postgres_url, 1)
    await client.services.archive.settled()
    routes = [
        ("GET", "/api/v1/sessions"),
        ("GET", f"/api/v1/sessions/{SESSION}/messages"),
        ("DELETE", f"/api/v1/sessions/{SESSION}"),
        ("DELETE", "/api/v1/memory"),
    ]

    await asyncio.to_thread(postgres_server.kill)
    during = [await client.send(*route) for route in routes]
    health = await client.send("GET", "/api/v1/auth/ping")
    await asyncio.to_thread(postgres_server.start)
    async with asyncio.timeout(30):
        while (after := await client.send("GET", "/api/v1/sessions")).status == 503:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.1)

    assert [reply.status for reply in during] == [503] * 4
    assert [reply.error["code"] for reply in during] == [
        "UNAVAILABLE",
        "UNAVAILABLE",
        "STREAMS_UNAVAILABLE",  # they are erased first
        "STREAMS_UNAVAILABLE",
    ]
    assert [reply.headers["retry-after"] for reply in during] == ["2", "2", "1", "1"]
    assert health.status == 200
    assert [session["session_id"] for session in after.json["sessions"]] == [SESSION]
