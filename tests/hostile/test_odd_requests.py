"""Requests that are odd but have one meaning: understood, or clearly refused."""

from __future__ import annotations

import asyncio
import gzip
import logging
from time import monotonic

import pytest
from patience import PATIENCE, until
from raw_http import PING, answer_to, connected, request
from sanic.http import Stage
from scripted_provider import ScriptedProvider, says

from services.events import TextDelta

DONE = b'event: done\ndata: {"finish_reason":"stop"}\n\n'


async def test_an_http_1_0_client_gets_a_stream_without_chunks_that_ends_by_closing(start, bearer):
    node = await start(provider=says("one ", "two"))

    async with connected(node.port) as wire:
        wire.send(request(bearer, None, "Connection: keep-alive", version="1.0"))
        response = await wire.response()

    assert response.status == 200
    assert response.headers["connection"] == "close"
    assert "transfer-encoding" not in response.headers
    assert response.body.startswith(b": Connected to chat stream\n\nevent: token\n")
    assert response.body.endswith(DONE)


async def test_an_http_1_0_stream_has_plain_heartbeats(start, bearer):
    node = await start({"OPENAI_SSE_HEARTBEAT_MS": "50"}, provider=ScriptedProvider(None))

    async with connected(node.port) as wire:
        wire.send(request(bearer, version="1.0"))
        await wire.reader.readuntil(b"\r\n\r\n: Connected to chat stream\n\n")

        assert (await wire.reader.readuntil(b"\n\n")).startswith(b": heartbeat ")


async def test_an_http_1_0_client_that_leaves_stops_the_answer(start, bearer):
    provider = ScriptedProvider((TextDelta("Hello"),), None)
    node = await start(provider=provider)

    async with connected(node.port) as wire:
        wire.send(request(bearer, version="1.0"))
        await wire.reader.readuntil(b"Hello")

    await node.idle()
    async with asyncio.timeout(PATIENCE):
        await provider.closed.wait()


async def test_http_1_0_needs_no_host(node):
    response = await answer_to(node.port, b"GET /api/v1/auth/ping HTTP/1.0\r\n\r\n")

    assert response.status == 200
    assert response.headers["connection"] == "close"


async def test_a_client_that_expects_100_is_told_to_go_on(node, bearer):
    body = b'{"message":"hi"}'

    async with connected(node.port) as wire:
        head = request(bearer, b"", "Expect: 100-continue", f"Content-Length: {len(body)}")
        wire.send(head)
        assert await wire.reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(body)
        response = await wire.response()

    assert response.body.endswith(DONE)


async def test_a_client_that_expects_100_for_chunks_is_told_to_go_on(node, bearer):
    async with connected(node.port) as wire:
        wire.send(request(bearer, b"", "Expect: 100-continue", "Transfer-Encoding: chunked"))
        assert await wire.reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(b'10\r\n{"message":"hi"}\r\n0\r\n\r\n')

        assert (await wire.response()).body.endswith(DONE)


@pytest.mark.parametrize(("valid", "length", "status"), [(False, 16, 401), (True, 1_000_000, 413)])
async def test_a_body_that_will_be_refused_is_not_asked_for(node, bearer, valid, length, status):
    """100 Continue would invite a body that nobody reads."""
    headers = bearer if valid else {"Authorization": "Bearer none"}

    async with connected(node.port) as wire:
        wire.send(request(headers, b"", "Expect: 100-continue", f"Content-Length: {length}"))
        everything = await wire.closed()

    assert everything.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"100 Continue" not in everything
    assert b"connection: close\r\n" in everything.lower()


async def test_an_expectation_that_cannot_be_met_is_417(node, bearer):
    response = await answer_to(node.port, request(bearer, None, "Expect: tea"))

    assert (response.status, response.code) == (417, "EXPECTATION_FAILED")


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br", "gzip, gzip", "x"])
async def test_an_encoded_body_is_415_and_told_what_would_do(node, bearer, coding):
    body = gzip.compress(b'{"message":"hi"}')

    response = await answer_to(node.port, request(bearer, body, f"Content-Encoding: {coding}"))

    assert (response.status, response.code) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert response.headers["accept-encoding"] == "identity"


async def test_a_body_that_says_it_is_not_encoded_is_read(node, bearer):
    response = await answer_to(node.port, request(bearer, None, "Content-Encoding: identity"))

    assert response.status == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"message":"a","message":"b"}',
        b'{"message":"a","extra":{"b":1,"b":2}}',
        b'{"message":"a","extra":' + b"[" * 15_000 + b"]" * 15_000 + b"}",
        b'{"message":"a","extra":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}",
        b'{"message":"a","extra":' + b"1" * 20_000 + b"}",
        b'{"message":"a","extra":Infinity}',
    ],
    ids=["twice", "twice inside", "arrays", "objects", "number", "infinity"],
)
async def test_json_that_readers_could_stumble_over_is_refused(node, bearer, body):
    response = await answer_to(node.port, request(bearer, body))

    assert (response.status, response.code) == (400, "INVALID_JSON")
    await node.serves()


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1e-999", "0.1e1", "9" * 4_000])
async def test_a_huge_number_is_no_message_and_elsewhere_ignored(node, bearer, number):
    as_message = await answer_to(node.port, request(bearer, f'{{"message":{number}}}'.encode()))
    elsewhere = f'{{"message":"hi","extra":{number}}}'.encode()

    assert as_message.code == "VALIDATION_ERROR"
    assert (await answer_to(node.port, request(bearer, elsewhere))).status == 200


async def test_an_upgrade_is_ignored_and_lifts_no_timeout(start, bearer):
    """Sanic stops watching a connection that asks to be a websocket."""
    node = await start({"KEEP_ALIVE_TIMEOUT_MS": "300"})
    upgrade = "Upgrade: websocket\r\nConnection: keep-alive"

    async with connected(node.port) as wire:
        wire.send(request(bearer, None, upgrade))
        response = await wire.response()
        rest = await wire.closed()

    assert response.status == 200
    assert response.body.endswith(DONE)
    assert rest == b""


@pytest.mark.parametrize(
    ("line", "statuses"),
    [
        (b"GET http://x/api/v1/auth/ping HTTP/1.1", {200, 400, 404}),
        (b"OPTIONS * HTTP/1.1", {204, 400, 404}),
        (b"CONNECT x:443 HTTP/1.1", {400, 404, 405}),
        (b"GET // HTTP/1.1", {404}),
        (b"GET /%00 HTTP/1.1", {400, 404}),
        (b"GET /api/v1/chat/%0d%0aSet-Cookie:x HTTP/1.1", {401}),
        (b"GET /api/v1/auth/ping?%zz=%ff HTTP/1.1", {200}),
        (b"GET /api/v1/auth/ping;a=b HTTP/1.1", {404}),
        (b"get /api/v1/auth/ping HTTP/1.1", {200, 400, 405}),
        (b"TRACE /api/v1/auth/ping HTTP/1.1", {405}),
        (b"BREW /api/v1/auth/ping HTTP/1.1", {405}),
        (b"PRI * HTTP/2.0", {400}),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else "",
)
async def test_an_odd_request_line_is_answered(node, line, statuses):
    response = await answer_to(node.port, line + PING[PING.index(b"\r\n") :])

    assert response.status in statuses
    assert b"Set-Cookie" not in str(response.headers).encode()
    await node.serves()


@pytest.mark.parametrize(
    "beginning",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
        b"\x16",
        b"\x00",
        b"GET /api/v1/auth/ping HTTP/1.1\nHost: x\n\n",
        b"GET /api/v1/auth/ping HTTP/1.1\r\nHost: x\nA:",
        b"GET /\r\n",
        b"GET / HTTP/2.0\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"GET /\x00",
        b"{",
        b"\r\n\r\n",
        b"\rG",
    ],
    ids=lambda value: repr(value[:24]),
)
async def test_what_can_be_no_request_is_refused_at_once(node, beginning):
    """It used to take all the time that a request has: TLS to the plain port first of all."""
    async with connected(node.port) as wire:
        wire.send(beginning)
        response = await wire.response()

    assert (response.status, response.code) == (400, "BAD_REQUEST")
    assert response.headers["connection"] == "close"


async def test_a_head_may_come_byte_by_byte(node):
    async with connected(node.port) as wire:
        for byte in PING:
            wire.send(bytes([byte]))
            await asyncio.sleep(0)

        assert (await wire.response()).status == 200


async def test_one_empty_line_before_a_request_is_ignored(node, bearer):
    """Some clients end a body with one, and their connection is idle then, not late."""
    async with connected(node.port) as wire:
        wire.send(b"\r\n" + PING)
        first = await wire.response()
        wire.send(request(bearer, b"{") + b"\r\n")
        second = await wire.response()
        [connection] = node.connections
        await until(lambda: connection.http.stage is Stage.IDLE and not connection.recv_buffer)
        connection.look(monotonic() + 40)
        wire.send(PING + b"\r\n" + PING)
        others = [await wire.response(), await wire.response()]

    assert [first.status, second.status] == [200, 400]
    assert [other.status for other in others] == [200, 200]


@pytest.mark.parametrize("coding", ["Chunked", "CHUNKED", "chunked ", "\tchunked\t"])
async def test_the_name_of_a_coding_has_no_case_and_blanks_around_it(node, bearer, coding):
    chunks = b'10\r\n{"message":"hi"}\r\n0\r\n\r\n'

    async with connected(node.port) as wire:
        wire.send(request(bearer, chunks, f"Transfer-Encoding: {coding}") + PING)
        first, second = await wire.response(), await wire.response()

    assert first.body.endswith(DONE)
    assert second.status == 200


async def test_an_http_1_0_client_is_not_told_to_go_on(node, bearer):
    """It would take 100 for the answer (RFC 9110, 10.1.1)."""
    async with connected(node.port) as wire:
        wire.send(request(bearer, None, "Expect: 100-continue", version="1.0"))

        assert (await wire.closed()).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "line",
    ["Content-Type: text/plain", "Content-Type: application/json", "Content-Encoding: gzip"],
)
async def test_a_second_line_that_says_something_else_of_the_body_is_415(node, bearer, line):
    response = await answer_to(node.port, request(bearer, None, "Content-Encoding: identity", line))

    assert (response.status, response.code) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_two_tokens_are_none_for_metrics_too(start):
    node = await start({"METRICS_TOKEN": "m" * 32})
    line = b"Authorization: Bearer " + b"m" * 32 + b"\r\n"
    head = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"

    one = await answer_to(node.port, head + line + b"\r\n")
    two = await answer_to(node.port, head + line + b"Authorization: Bearer x\r\n\r\n")

    assert [one.status, two.status] == [200, 401]


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_a_body_that_nobody_asked_for_is_no_error_in_the_log(node, caplog, method):
    asking = PING.replace(b"GET", method).replace(
        b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nhello"
    )

    with caplog.at_level(logging.ERROR, logger="sanic.error"):
        async with connected(node.port) as wire:
            wire.send(asking)
            await wire.reader.readuntil(b"\r\n\r\n")
        async with connected(node.port) as wire:
            wire.send(asking.replace(method, b"GET") + PING)
            answers = [await wire.response(), await wire.response()]

    assert [answer.status for answer in answers] == [200, 200]
    assert caplog.messages == []


async def test_a_body_of_no_bytes_is_no_error_in_the_log(node, caplog):
    """Many clients send `Content-Length: 0` with whatever has no body."""
    with caplog.at_level(logging.ERROR, logger="sanic.error"):
        async with connected(node.port) as wire:
            wire.send(PING.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n") + PING)
            answers = [await wire.response(), await wire.response()]

    assert [answer.status for answer in answers] == [200, 200]
    assert caplog.messages == []
