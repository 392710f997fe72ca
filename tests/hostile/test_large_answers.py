"""Answers that are large: a connection holds a part of them, and pages of long messages go on."""

from __future__ import annotations

import json

import pytest
from patience import until
from raw_http import PING, answer_to, connected, request
from sanic import text

from sanic_server import SanicServer
from services.storage.conversations import FinishedTurn
from services.turn import Turn
from tests.hostile.conftest import Node
from tests.hostile.test_deadlines import unread

SESSION = "session-20250101-120000-abcd"
PATH = f"/api/v1/sessions/{SESSION}/messages"
MOST = 256 * 1024


@pytest.fixture
async def talkative(node: Node) -> Node:
    """A service that keeps 120 messages of 4,000 emoji."""
    turns = [
        FinishedTurn(
            f"turn-{number}",
            Turn("req_1", "test-user-id", "\N{GRINNING FACE}" * 4_000, session_id=SESSION),
            "\N{GRINNING FACE}" * 4_000,
            "stop",
        )
        for number in range(60)
    ]
    await node.services.conversations.add(*turns)
    return node


async def test_a_page_of_long_messages_is_shorter_and_the_next_goes_on(talkative, bearer):
    """100 of them were 4.8 MB in one write."""
    cursor, ids, sizes = "", [], []

    while cursor is not None:
        after = f"&cursor={cursor}" if cursor else ""
        get = request(bearer, b"", method="GET", path=f"{PATH}?limit=100{after}")
        response = await answer_to(talkative.port, get)
        page = json.loads(response.body)
        cursor = page["next_cursor"]
        ids += [message["id"] for message in page["messages"]]
        sizes.append(len(response.body))

    assert ids == sorted(set(ids), reverse=True)
    assert len(ids) == 120
    assert max(sizes) < MOST / 2
    assert min(sizes[:-1]) > MOST / 4


async def test_unread_pages_do_not_gather_in_memory(talkative, bearer):
    get = request(bearer, b"", method="GET", path=f"{PATH}?limit=100")
    most = 0

    async with unread(talkative.port, get * 80):
        await until(lambda: talkative.connections)
        [connection] = talkative.connections

        def is_stuck() -> bool:
            nonlocal most
            most = max(most, connection.transport.get_write_buffer_size())
            return not connection._can_write.is_set() and connection.http.stage.name == "HANDLER"

        await until(is_stuck)

    assert 0 < most <= MOST


async def test_one_answer_that_is_larger_than_all_of_that_is_written_as_it_is_read(make_app):
    app = make_app()

    @app.get("/large", ctx_public=True)
    async def large(request):
        return text("x" * 20_000_000)

    server = SanicServer(app)
    await server.start()
    node, get = Node(server), PING.replace(b"/api/v1/auth/ping", b"/large")
    try:
        async with unread(server.port, get):
            await until(lambda: node.connections)
            [connection] = node.connections
            await until(lambda: not connection._can_write.is_set())
            most = connection.transport.get_write_buffer_size()
        async with connected(server.port) as wire:
            wire.send(get)
            whole = await wire.response()
    finally:
        await server.stop()

    assert most <= MOST
    assert len(whole.body) == 20_000_000
