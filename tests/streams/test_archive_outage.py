"""The database goes away while an answer is given: the archive has it once the database is back."""

from __future__ import annotations

import asyncio

import pytest
from databases import Database
from postgres import PostgresServer
from whole_answer import WHOLE


@pytest.fixture
def environment(environment, postgres_url):
    return environment | {"DATABASE_URL": postgres_url}


async def test_an_answer_given_without_the_database_is_replayed_after_a_restart(
    start_node, held, go_on, postgres_server: PostgresServer, postgres_url: str
):
    before = await start_node(provider=held)
    await asyncio.to_thread(postgres_server.kill)
    go_on.set()
    async with before.client.ask(key="k") as answer:
        await answer.read_to_end()
    await asyncio.to_thread(postgres_server.start)
    await _archived(postgres_url)
    await before.stop()
    after = await start_node(provider=held)

    async with after.client.ask(key="k") as again:
        await again.read_to_end()

    assert again.raw_events == WHOLE
    assert len(held.asked) == 1


async def _archived(url: str) -> None:
    """Wait until the end of a stream is stored."""
    async with asyncio.timeout(60), Database(url) as database:
        while not await database.fetch_val("SELECT 1 FROM streams WHERE frames IS NOT NULL"):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.1)
