"""The shipped proxy configurations, run for real: what the service promises arrives behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from patience import PATIENCE
from proxy_servers import apache, nginx
from scripted_provider import STOP, USAGE, ScriptedProvider

from blueprints.context import ChatApp
from sanic_server import SanicServer, serve
from services.events import TextDelta
from tests.hostile.raw_http import PING, Wire, answer_to, connected, request

PROXIES = {"nginx": nginx, "apache": apache}
BEATING = {"OPENAI_SSE_HEARTBEAT_MS": "100"}


@pytest.fixture
def go_on() -> asyncio.Event:
    """What the answer waits for after its first word."""
    return asyncio.Event()


@pytest.fixture
def provider(go_on: asyncio.Event) -> ScriptedProvider:
    return ScriptedProvider((TextDelta("one"),), go_on, (TextDelta("two"),), (USAGE, STOP))


@pytest.fixture
async def server(
    loop: Any, make_app: Callable[..., ChatApp], provider: ScriptedProvider
) -> AsyncIterator[SanicServer]:
    async with serve(make_app(BEATING, provider=provider)) as server:
        yield server


@pytest.fixture(params=PROXIES)
async def port(request: pytest.FixtureRequest, server: SanicServer, tmp_path: Any) -> Any:
    """The proxy's port."""
    with PROXIES[request.param](server.port, tmp_path) as port:
        yield port


@pytest.fixture
async def wire(port: int) -> AsyncIterator[Wire]:
    async with connected(port) as wire:
        yield wire


async def until(wire: Wire, text: bytes) -> bytes:
    """What arrives up to *text*."""
    async with asyncio.timeout(PATIENCE):
        return await wire.reader.readuntil(text)


async def test_each_event_arrives_when_it_is_sent(wire, bearer, go_on):
    """The second word is not said before the first one has arrived."""
    wire.send(request(bearer))

    await until(wire, b": Connected to chat stream\n\n")
    await until(wire, b'event: token\ndata: {"text":"one"}\n\n')
    go_on.set()
    await until(wire, b'event: token\ndata: {"text":"two"}\n\n')

    rest = await until(wire, b"\r\n0\r\n\r\n")
    assert b'event: done\ndata: {"finish_reason":"stop"}\n\n' in rest


async def test_heartbeats_pass(wire, bearer):
    wire.send(request(bearer))

    for _ in range(3):
        await until(wire, b": heartbeat ")


async def test_a_disconnect_reaches_the_provider(port, bearer, provider):
    async with connected(port) as wire:
        wire.send(request(bearer))
        await until(wire, b'"one"')

    async with asyncio.timeout(PATIENCE):
        await provider.closed.wait()
    assert provider.running == 0


async def test_the_headers_arrive_as_they_were_sent(wire, bearer):
    wire.send(request(bearer, None, "X-Request-Id: mine-1", resumable=True))

    head = (await until(wire, b"\r\n\r\n")).decode().lower().split("\r\n")

    assert head[0] == "http/1.1 200 ok"
    assert {
        "content-type: text/event-stream",
        "cache-control: no-cache, no-store, must-revalidate, no-transform",
        "access-control-allow-origin: *",
        "x-request-id: mine-1",
        "x-accel-buffering: no",
        "proxy-buffering: off",
        "transfer-encoding: chunked",
    } <= set(head)
    assert "connection: close" not in head
    assert any(line.startswith("x-stream-id: str_") for line in head)


async def test_a_stream_that_is_cut_does_not_look_complete(wire, bearer, server):
    wire.send(request(bearer))
    await until(wire, b'"one"')

    for connection in list(server._connections._open):
        connection.abort()
    rest = await wire.closed()

    assert not rest.endswith(b"0\r\n\r\n")


async def test_refusals_keep_their_shape(port, bearer):
    unauthorized = await answer_to(port, request({"Authorization": "Bearer none"}))
    too_large = await answer_to(port, request(bearer, b" " * 40_000))
    missing = await answer_to(port, PING.replace(b"auth/ping", b"nothing"))

    assert (unauthorized.status, unauthorized.code) == (401, "UNAUTHORIZED")
    assert unauthorized.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert (too_large.status, too_large.code) == (413, "PAYLOAD_TOO_LARGE")
    assert (missing.status, missing.code) == (404, "NOT_FOUND")


async def test_a_connection_serves_a_stream_and_what_follows(wire, bearer, go_on):
    go_on.set()

    wire.send(request(bearer) + PING)

    assert (await wire.response()).body.endswith(b'{"finish_reason":"stop"}\n\n')
    assert (await wire.response()).status == 200
