"""Requests of which two servers could disagree where they end: refused, and never two."""

from __future__ import annotations

import pytest
from wire import PING, connected, request

LINE = b"POST /api/v1/chat HTTP/1.1\r\n"
HIDDEN = b"GET /api/v1/hidden HTTP/1.1\r\nHost: x\r\n\r\n"
FULL_WIDTH = "\uff14\uff12".encode()

UNSOUND = {
    "space before the colon": LINE + b"Host: x\r\nContent-Length : 42\r\n\r\n",
    "tab before the colon": LINE + b"Host: x\r\nContent-Length\t: 42\r\n\r\n",
    "two lengths": LINE + b"Host: x\r\nContent-Length: 42\r\nContent-Length: 42\r\n\r\n",
    "a list of lengths": LINE + b"Host: x\r\nContent-Length: 42, 42\r\n\r\n",
    "a signed length": LINE + b"Host: x\r\nContent-Length: +42\r\n\r\n",
    "a length with underscores": LINE + b"Host: x\r\nContent-Length: 4_2\r\n\r\n",
    "a length in hexadecimal": LINE + b"Host: x\r\nContent-Length: 0x2a\r\n\r\n",
    "an empty length": LINE + b"Host: x\r\nContent-Length:\r\n\r\n",
    "full-width digits": LINE + b"Host: x\r\nContent-Length: " + FULL_WIDTH + b"\r\n\r\n",
    "a length beyond reason": LINE + b"Host: x\r\nContent-Length: " + b"9" * 400 + b"\r\n\r\n",
    "length and chunks": LINE
    + b"Host: x\r\nContent-Length: 42\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunks and length": LINE
    + b"Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 42\r\n\r\n",
    "chunks twice": LINE + b"Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
    "an unknown coding": LINE + b"Host: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "a list of codings": LINE + b"Host: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "a vertical tab": LINE + b"Host: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
    "chunks to an HTTP/1.0 server": b"POST /api/v1/chat HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a folded line": LINE + b"Host: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n",
    "a line feed alone": LINE + b"Host: x\r\nA: b\nContent-Length: 42\r\n\r\n",
    "a carriage return alone": LINE + b"Host: x\r\nA: b\rContent-Length: 42\r\n\r\n",
    "NUL": LINE + b"Host: x\r\nA: b\0c\r\n\r\n",
    "no name": LINE + b"Host: x\r\n: b\r\n\r\n",
    "a name with a space": LINE + b"Host: x\r\nA b: c\r\n\r\n",
    "no Host": LINE + b"Content-Length: 42\r\n\r\n",
    "two Hosts": LINE + b"Host: x\r\nHost: y\r\n\r\n",
    "a Host with a path": LINE + b"Host: x/y\r\n\r\n",
    "a list of Hosts": LINE + b"Host: x, y\r\n\r\n",
    "a method that is none": b"PO(ST /api/v1/chat HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the path": b"POST /api/v1 /chat HTTP/1.1\r\nHost: x\r\n\r\n",
    "a control character in the path": b"POST /api\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
    "another version": b"POST /api/v1/chat HTTP/1.2\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("head", UNSOUND.values(), ids=UNSOUND.keys())
async def test_a_head_with_two_meanings_is_refused_and_nothing_after_it_is_read(node, head):
    async with connected(node.port) as wire:
        wire.send(head + HIDDEN)

        response = await wire.response()
        rest = await wire.closed()

    assert (response.status, response.code) == (400, "BAD_REQUEST")
    assert response.headers["connection"] == "close"
    assert rest == b""
    await node.serves()


@pytest.mark.parametrize(
    "chunks",
    [
        b"0xf\r\n",
        b" f \r\n",
        b"f\n",
        b"f;a\nb\r\n",
        b"-f\r\n",
        b"f_f\r\n",
        b"\r\n",
        b"g\r\n",
        b"fffffffff\r\n",
        b"1" * 100,
        b"1;" + b"a" * 100 + b"\r\n",
        b'f\r\n{"message":"x"}0\r\n\r\n',
        b'e\r\n{"message":"x"}\r\n0\r\n\r\n',
        b'f\r\n{"message":"x"}\r\n0\r\nX-Trailer: y\r\n\r\n',
    ],
    ids=repr,
)
async def test_chunks_that_are_not_exactly_chunks_are_refused(node, bearer, chunks):
    async with connected(node.port) as wire:
        wire.send(request(bearer, chunks, "Transfer-Encoding: chunked") + HIDDEN)

        response = await wire.response()
        rest = await wire.closed()

    assert (response.status, response.code) == (400, "BAD_REQUEST")
    assert rest == b""
    await node.serves()


async def test_sound_chunks_are_read_and_the_connection_stays(node, bearer):
    chunks = b'8;name=value\r\n{"messag\r\n07\r\ne":"x"}\r\n0\r\n\r\n'

    async with connected(node.port) as wire:
        wire.send(request(bearer, chunks, "Transfer-Encoding: chunked") + PING)
        first, second = await wire.response(), await wire.response()

    assert first.body.endswith(b'event: done\ndata: {"finish_reason":"stop"}\n\n')
    assert second.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "host", ["example.com", "example.com:3000", "[::1]:3000", "127.0.0.1", "a_b.example", ""]
)
async def test_every_host_is_welcome(node, host):
    async with connected(node.port) as wire:
        wire.send(PING.replace(b"Host: x", f"Host: {host}".encode()))

        assert (await wire.response()).status == 200
