"""What `endpoint` and `exchange` use of aiohttp below its public interface, on real sockets.

A version of aiohttp that breaks one of these breaks requests in ways that are hard to see.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp.connector import Connection
from answers import until
from patience import PATIENCE
from upstream import Reply, Script, Upstream
from yarl import URL

ASK = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
HELLO = b"HTTP/1.1 200 OK\r\nX-Y: z\r\ncontent-length: 5\r\n\r\nhello"


@pytest.fixture
async def connector(loop: asyncio.AbstractEventLoop) -> AsyncIterator[aiohttp.TCPConnector]:
    async with aiohttp.TCPConnector(limit=0) as connector:
        yield connector


def says(*pieces: bytes) -> Script:
    async def script(reply: Reply) -> None:
        reply.complete = True
        for piece in pieces:
            reply.raw(piece)
            await asyncio.sleep(0.01)

    return script


def route_to(url: str, **options: object) -> aiohttp.ClientRequest:
    loop = asyncio.get_running_loop()
    return aiohttp.ClientRequest("POST", URL(url), loop=loop, **options)  # type: ignore[arg-type]


async def connect(connector: aiohttp.TCPConnector, route: aiohttp.ClientRequest) -> Connection:
    timeout = aiohttp.ClientTimeout(connect=PATIENCE)
    connection = await connector.connect(route, traces=[], timeout=timeout)
    assert connection.protocol is not None, "`Connection.protocol` is what sends and reads"
    assert connection.transport is connection.protocol.transport
    return connection


async def ask(connection: Connection) -> tuple[int, aiohttp.StreamReader]:
    protocol, transport = connection.protocol, connection.transport
    assert protocol is not None
    assert transport is not None
    protocol.set_response_params(read_until_eof=True)
    transport.write(ASK)
    message, content = await protocol.read()
    assert message.headers.get("x-y") == "z", "`headers` finds names in any case"
    return message.code, content


async def test_a_connector_connects_for_a_request_that_is_never_sent(
    connector: aiohttp.TCPConnector, upstream: Upstream
) -> None:
    upstream.plays(says(HELLO))
    route = route_to(upstream.url)

    for known in (False, True):
        connection = await connect(connector, route)
        assert connection.protocol is not None
        assert (connection.protocol._parser is not None) is known, (
            "`_parser` tells a reused connection from a new one: `Exchange.reused`"
        )
        assert not connection.protocol.should_close
        code, content = await ask(connection)
        content.on_eof(connection.release)
        assert (code, await content.readany()) == (200, b"hello")
        assert connection.protocol is None, "a connection that was given back has no protocol"

    assert upstream.connections == 1
    assert upstream.requests[0].body == b"{}"


async def test_a_route_through_a_proxy_has_the_same_key_all_along(
    connector: aiohttp.TCPConnector, upstream: Upstream
) -> None:
    """The connector writes into the headers for the proxy, and those are part of the pool's key."""
    host = {"Host": "provider.example"}
    proxy = URL(upstream.origin)
    route = route_to("http://provider.example/", proxy=proxy, proxy_headers=host)
    key = route.connection_key

    connection = await connect(connector, route)
    connection.close()

    assert route.connection_key == key, "no tunnel would be used a second time: `endpoint._route`"


@pytest.mark.parametrize("late", [True, False])
async def test_what_nobody_asked_for_shows_in_should_close(
    connector: aiohttp.TCPConnector, upstream: Upstream, late: bool
) -> None:
    upstream.plays(says(HELLO, HELLO) if late else says(HELLO + HELLO))
    connection = await connect(connector, route_to(upstream.url))
    protocol = connection.protocol
    assert protocol is not None
    _, content = await ask(connection)
    await content.readany()

    await until(lambda: protocol.should_close)  # or the second answer is given to the next request

    connection.close()


async def test_an_exception_set_on_a_protocol_reaches_who_waits_for_the_head(
    connector: aiohttp.TCPConnector, upstream: Upstream
) -> None:
    connection = await connect(connector, route_to(upstream.url))
    protocol = connection.protocol
    assert protocol is not None
    reading = asyncio.ensure_future(protocol.read())
    await asyncio.sleep(0)

    protocol.set_exception(TimeoutError())

    with pytest.raises(TimeoutError):
        await reading
    assert protocol.should_close, "a head that comes later is nobody's"
    connection.close()


async def test_aborting_does_not_wait_for_what_is_not_sent(
    connector: aiohttp.TCPConnector, upstream: Upstream
) -> None:
    upstream.plays(says())
    connection = await connect(connector, route_to(upstream.url))
    protocol, transport = connection.protocol, connection.transport
    assert protocol is not None
    assert transport is not None
    (server,) = upstream.open
    server.transport.pause_reading()
    transport.write(b"x" * 30_000_000)
    assert transport.get_write_buffer_size() > 0, "`Exchange._give_back` looks at it"
    lost = protocol.closed
    assert lost is not None, "`closed` tells of a connection that breaks"

    protocol.abort()
    connection.close()

    async with asyncio.timeout(PATIENCE):
        await lost
    assert len(connector._acquired) == 0, "`Connection.close` forgets an aborted connection"


async def test_a_malformed_body_closes_the_connection_and_is_not_told_to_its_reader(
    connector: aiohttp.TCPConnector, upstream: Upstream
) -> None:
    """Should this fail, aiohttp tells it now, and `Exchange._note_loss` can go."""
    head = b"HTTP/1.1 200 OK\r\nx-y: z\r\ntransfer-encoding: chunked\r\n\r\n"
    upstream.plays(says(head, b"not a chunk\r\n"))
    connection = await connect(connector, route_to(upstream.url))
    _, content = await ask(connection)
    protocol = connection.protocol
    assert protocol is not None
    lost = protocol.closed
    assert lost is not None

    async with asyncio.timeout(PATIENCE):
        await lost

    assert protocol.exception() is not None, "`Exchange.read` looks at it"
    assert not content.is_eof()
    assert content.exception() is None
    connection.close()


def test_the_empty_payload_has_ended_and_nothing_can_be_done_to_it() -> None:
    """It stands in for a body while there is none, and all exchanges share it."""
    ended: list[bool] = []
    empty = aiohttp.EMPTY_PAYLOAD

    empty.set_exception(TimeoutError())
    empty.on_eof(lambda: ended.append(True))

    assert empty.is_eof()
    assert empty.exception() is None
    assert ended == [True]
