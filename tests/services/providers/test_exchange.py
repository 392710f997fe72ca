"""Requests that are hard to send, and answers with heads of every kind."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from answers import events_of, failure_of, openai_at, settled, text_of, until
from dialects import openai_events
from patience import PATIENCE
from upstream import Reply, Upstream, openai

from services.errors import ProviderError, ProviderRejected, ProviderUnavailable
from services.providers.transport import Transport
from services.turn import Message, Prompt

pytestmark = pytest.mark.usefixtures("reading")

HUGE = Prompt("", (Message("user", "x" * 8_000_000),))
OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


class Deaf(asyncio.Protocol):
    """A server's side of a connection that reads the beginning of a request, and nothing more."""

    transport: asyncio.Transport

    def __init__(self, says: bytes, opened: list[Deaf]) -> None:
        self._says = says
        self.taken = 0
        self.asked = asyncio.Event()
        self.lost = asyncio.Event()
        opened.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one by shape only

    def data_received(self, data: bytes) -> None:
        self.taken += len(data)
        if not self.asked.is_set():
            self.transport.pause_reading()
            self.asked.set()
            self.transport.write(self._says)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


@asynccontextmanager
async def deaf(
    says: bytes, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, list[Deaf]]]:
    """A provider that says *says* before it has read a request: its URL, and its connections."""
    opened: list[Deaf] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Deaf(says, opened), "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"{'https' if tls else 'http'}://localhost:{port}/v1", opened
    finally:
        server.close()
        for connection in opened:
            connection.transport.abort()
        await server.wait_closed()


async def test_a_huge_prompt_arrives_whole(transport: Transport, upstream: Upstream) -> None:
    assert await text_of(openai_at(transport, upstream.url), HUGE) == "Hello world"

    (request,) = upstream.requests
    assert len(request.json["messages"][0]["content"]) == 8_000_000
    await settled(transport)
    await text_of(openai_at(transport, upstream.url), HUGE)
    assert upstream.connections == 1


async def test_an_answer_that_comes_before_the_prompt_was_taken_is_heard(
    transport: Transport, tls: ssl.SSLContext | None
) -> None:
    """And what is left of the prompt is sent to nobody: it would be the beginning of the next request."""
    too_long = b'{"error":{"type":"invalid_request_error","code":"context_length_exceeded"}}'
    head = b"HTTP/1.1 413 No\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    async with deaf(head % len(too_long) + too_long, tls) as (url, opened):
        _, error = await failure_of(openai_at(transport, url), HUGE)

        assert isinstance(error, ProviderRejected)
        assert (error.status, error.retryable) == (413, False)
        assert "context_length_exceeded" in str(error)
        await settled(transport)
        await failure_of(openai_at(transport, url), HUGE)
        assert len(opened) == 2
        assert transport.pool_hits == 0


async def test_leaving_does_not_wait_until_the_prompt_was_taken(
    transport: Transport, tls: ssl.SSLContext | None
) -> None:
    """Nor sends the rest of it first."""
    async with deaf(b"", tls) as (url, opened):
        asking = asyncio.ensure_future(events_of(openai_at(transport, url), HUGE))
        await until(lambda: bool(opened) and opened[0].asked.is_set())

        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert transport.open == 0
        opened[0].transport.resume_reading()

        async with asyncio.timeout(PATIENCE):
            await opened[0].lost.wait()
        assert opened[0].taken < 8_000_000


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("length", [True, False])
async def test_what_is_said_before_the_answer_is_passed_over(
    transport: Transport, upstream: Upstream, prompt: Prompt, at_once: bool, length: bool
) -> None:
    """Interim answers (RFC 9110, section 15.2); the last one is the answer."""
    body = b"".join(openai_events("Hello"))
    answer = b"content-length: %d\r\n\r\n%b" % (len(body), body)
    pieces = [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n",
        OK + (answer if length else CHUNKED + chunked(body)),
    ]

    async def script(reply: Reply) -> None:
        reply.complete = True
        for piece in [b"".join(pieces)] if at_once else pieces:
            reply.raw(piece)
            await asyncio.sleep(0.01)

    upstream.plays(script)
    provider = openai_at(transport, upstream.url)

    for _ in range(2):
        assert await text_of(provider, prompt) == "Hello"
        await settled(transport)

    assert upstream.connections == 1


async def test_an_answer_may_end_with_its_connection(
    transport: Transport, prompt: Prompt, tls: ssl.SSLContext | None
) -> None:
    """With TLS the end is seen together with the last words, and before the connection is over."""

    async def script(reply: Reply) -> None:
        reply.raw(OK + b"\r\n" + b"".join(openai_events("Hello")))
        reply.drop()

    async with Upstream(tls) as upstream:
        upstream.plays(script)

        for _ in range(2):
            assert await text_of(openai_at(transport, upstream.url), prompt) == "Hello"
            await settled(transport)

        assert upstream.connections == 2


async def test_an_error_may_end_with_its_connection(
    transport: Transport, prompt: Prompt, tls: ssl.SSLContext | None
) -> None:
    async def script(reply: Reply) -> None:
        reply.raw(b"HTTP/1.0 429 No\r\n\r\n" + b'{"error":{"type":"insufficient_quota"}}')
        reply.drop()

    async with Upstream(tls) as upstream:
        upstream.plays(script)

        _, error = await failure_of(openai_at(transport, upstream.url), prompt)

        assert "insufficient_quota" in str(error)
        assert not error.retryable
        await settled(transport)


async def test_a_socket_that_breaks_behind_an_answer_is_not_waited_for(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    """It would count as one of the pool's until 2 s have passed."""

    async def script(reply: Reply) -> None:
        reply.head()
        reply.send(b"".join(openai_events("Hello")))
        await asyncio.sleep(0.05)
        reply.drop()

    upstream.plays(script)
    assert await text_of(openai_at(transport, upstream.url), prompt) == "Hello"
    assert transport.open == 1

    async with asyncio.timeout(1.5):
        await settled(transport)

    assert transport._pooled == 0


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 204 No\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]
)
async def test_an_answer_without_a_body_is_a_failure_and_leaves_the_socket_usable(
    transport: Transport, upstream: Upstream, prompt: Prompt, head: bytes
) -> None:
    async def script(reply: Reply) -> None:
        reply.complete = True
        reply.raw(head)

    upstream.plays(script, openai("Hello"))

    _, error = await failure_of(openai_at(transport, upstream.url), prompt)
    assert isinstance(error, ProviderError)

    assert await text_of(openai_at(transport, upstream.url), prompt) == "Hello"
    assert transport.open <= 1


async def test_a_switch_of_protocols_is_a_failure_and_the_socket_is_gone(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    async def script(reply: Reply) -> None:
        reply.raw(b"HTTP/1.1 101 Sure\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
        await asyncio.Event().wait()

    upstream.plays(script)

    _, error = await failure_of(openai_at(transport, upstream.url), prompt)

    assert error.status == 101
    await upstream.connected(0)
    assert transport.open == 0


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="not HTTP"),
        pytest.param(b"HTTP/1.1 2000 OK\r\n\r\n", id="status"),
        pytest.param(OK + b"content-length: x\r\n\r\n", id="length"),
        pytest.param(OK + b"x: " + b"y" * 100_000 + b"\r\n\r\n", id="long"),
    ],
)
async def test_a_malformed_head_is_a_provider_that_is_unavailable(
    transport: Transport, upstream: Upstream, prompt: Prompt, said: bytes
) -> None:
    async def script(reply: Reply) -> None:
        reply.complete = True
        reply.raw(said)
        await asyncio.Event().wait()

    upstream.plays(script)

    _, error = await failure_of(openai_at(transport, upstream.url), prompt)

    assert isinstance(error, ProviderUnavailable)
    assert error.phase == "headers"
    assert error.retryable
    await upstream.connected(0)


@pytest.mark.parametrize("idle", [True, False])
async def test_what_comes_after_an_answer_is_not_the_next_one(
    transport: Transport, upstream: Upstream, prompt: Prompt, idle: bool
) -> None:
    """Two answers to one question: the second would be told to another user."""
    mine, others = (b"".join(openai_events(text)) for text in ("mine", "somebody's"))
    unasked = OK + b"content-length: %d\r\n\r\n%b" % (len(others), others)

    async def answers_twice(reply: Reply) -> None:
        reply.head()
        reply.send(mine)
        await asyncio.sleep(0.02)  # until the head was read
        reply.complete = True
        reply.raw(b"0\r\n\r\n" if idle else b"0\r\n\r\n" + unasked)
        if idle:
            await settled(transport)
            reply.raw(unasked)

    upstream.plays(answers_twice, openai("Hello"))
    provider = openai_at(transport, upstream.url)

    assert await text_of(provider, prompt) == "mine"
    await settled(transport)
    await asyncio.sleep(0.02)  # until the rest was read
    assert await text_of(provider, prompt) == "Hello"

    assert [request.connection for request in upstream.requests] == [1, 2]
    assert transport.stale_sockets == 1


@pytest.mark.parametrize("reused", [True, False])
async def test_whenever_a_question_is_cancelled_no_socket_is_left(
    transport: Transport, upstream: Upstream, prompt: Prompt, reused: bool
) -> None:
    """At every turn of the loop from connecting to the last word."""
    upstream.plays(openai("Hello", " world"))
    provider = openai_at(transport, upstream.url)
    for turns in range(1, 40):
        if reused:
            await text_of(provider, prompt)
            await settled(transport)
        asking = asyncio.ensure_future(text_of(provider, prompt))
        for _ in range(turns):
            await asyncio.sleep(0)

        asking.cancel()
        await asyncio.wait([asking])

        await settled(transport)
        assert transport._pooled == 0
        if not asking.cancelled():
            assert asking.result() == "Hello world"
            break
        await until(lambda: len(upstream.open) == 0)
    else:
        raise AssertionError("it was always cancelled")


async def test_nothing_is_sent_when_being_told_of_the_connection_fails(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    """What is not sent costs nothing."""
    endpoint = transport.endpoint(f"{upstream.url}/chat/completions", {})

    def refuse(seconds: float) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await transport.post(endpoint, b"{}", on_connected=refuse)

    assert transport.open == 0
    await upstream.connected(0)
    assert upstream.requests == []
