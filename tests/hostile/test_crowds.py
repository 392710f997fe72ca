"""More connections than a process keeps: the silent make way, nobody hangs, the next client is served."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from raw_http import PING, Wire, answer_to, connected, request
from scripted_provider import ScriptedProvider

from services.events import TextDelta

SLOW_HEAD = PING[:20]


async def crowd(stack: AsyncExitStack, port: int, number: int, data: bytes = b"") -> list[Wire]:
    """So many connections that have sent *data*, until *stack* ends."""
    wires = [await stack.enter_async_context(connected(port)) for _ in range(number)]
    for wire in wires:
        wire.send(data)
    return wires


async def counted(node, number: int) -> None:
    """Return when the service has accepted so many."""
    async with asyncio.timeout(30):
        while len(node.server.app.ctx.crowd) < number:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


async def served(node) -> None:
    """Return when a newcomer is served; until then it's told to come back."""
    async with asyncio.timeout(30):
        while (answer := await answer_to(node.port, PING)).status != 200:
            assert answer.code == "OVERLOADED"
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("data", [b"", SLOW_HEAD, PING], ids=["silent", "slow head", "idle"])
async def test_those_who_ask_for_nothing_make_way(start, data):
    node = await start({"LIMIT_PROCESS_CONNECTIONS": "40"})

    async with AsyncExitStack() as stack:
        wires = await crowd(stack, node.port, 40, data)
        await counted(node, 40)
        if data == PING:
            for wire in wires:
                assert (await wire.response()).status == 200
        await node.serves()
        await node.serves()
        async with asyncio.timeout(30):
            await asyncio.wait(
                [asyncio.ensure_future(wire.closed()) for wire in wires],
                return_when=asyncio.FIRST_COMPLETED,
            )

    assert node.server.app.ctx.crowd.refused == 0


async def test_the_longest_silent_go_first(start):
    node = await start({"LIMIT_PROCESS_CONNECTIONS": "8"})

    async with AsyncExitStack() as stack:
        old = await crowd(stack, node.port, 3)
        await counted(node, 3)
        await asyncio.sleep(0.05)
        young = await crowd(stack, node.port, 5)
        await counted(node, 8)
        await node.serves()
        gone = [await wire.closed() for wire in old]
        for wire in young:
            wire.send(PING)
        answers = [await wire.response() for wire in young]

    assert gone == [b"", b"", b""]
    assert [answer.status for answer in answers] == [200] * 5


async def test_where_all_are_being_answered_the_newcomer_is_told_503(start, bearer):
    """No answer that runs is cut for it, and there is room again when one has ended."""
    provider = ScriptedProvider((TextDelta("one"),), None)
    node = await start({"LIMIT_PROCESS_CONNECTIONS": "2"}, provider=provider)

    async with AsyncExitStack() as stack:
        wires = await crowd(stack, node.port, 2, request(bearer))
        for wire in wires:
            await wire.reader.readuntil(b'"one"')
        async with connected(node.port) as newcomer:
            newcomer.send(request(bearer))
            full = await newcomer.response()
            rest = await newcomer.closed()
        running = len(node.services.streams)
    await node.idle()

    assert (full.status, full.code, rest) == (503, "OVERLOADED", b"")
    assert full.headers["retry-after"] == "1"
    assert full.headers["connection"] == "close"
    assert full.headers["x-request-id"].encode() in full.body
    assert running == 2
    await served(node)


async def test_one_address_has_no_more_than_its_share(start):
    node = await start({"LIMIT_ADDRESS_CONNECTIONS": "3"})

    async with AsyncExitStack() as stack:
        await crowd(stack, node.port, 3, PING)
        await counted(node, 3)
        one_more = await answer_to(node.port, b"")
    async with asyncio.timeout(30):
        while len(node.server.app.ctx.crowd):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)

    assert one_more.code == "OVERLOADED"
    await node.serves()


async def test_a_flood_of_many_times_the_room_keeps_nobody_out(start, bearer):
    """Whoever asks at once is answered between those who say nothing."""
    node = await start({"LIMIT_PROCESS_CONNECTIONS": "50"})
    answered = 0

    async with AsyncExitStack() as stack:
        for _ in range(10):
            await crowd(stack, node.port, 40)
            await served(node)
            answered += 1
            assert len(node.server.app.ctx.crowd) <= 50
        chat = await answer_to(node.port, request(bearer))

    assert answered == 10
    assert chat.status in (200, 503)
    metrics = await answer_to(
        node.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    assert b"\nhttp_connections " in metrics.body
    assert b"\nhttp_connections_refused_total " in metrics.body
