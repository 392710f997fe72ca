"""Chunks taken from the socket ahead of aiohttp, and everything else left to it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from contextvars import ContextVar
from itertools import pairwise

import pytest
from dialects import openai_events as events
from hypothesis import given
from hypothesis import strategies as st
from upstream import Reply, Upstream

from services.events import Batch, Offer, TextDelta, has_text
from services.providers.chunk_reader import HIGH_WATER, ChunkReader
from services.providers.openai import OpenAI
from services.providers.transport import Transport
from services.turn import Prompt

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Socket(asyncio.Transport):
    """Remembers who reads it, and what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: asyncio.BaseProtocol | None = None
        self.paused = False
        self.aborted = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def brings(self, data: bytes, *, at_once: int | None = None) -> None:
        """Hand *data* to whoever reads, so many bytes *at_once*."""
        step = at_once or len(data)
        for start in range(0, len(data), step):
            if not self.aborted:
                assert isinstance(self.protocol, asyncio.Protocol)
                self.protocol.data_received(data[start : start + step])


class Handler(asyncio.Protocol):
    """What aiohttp would get."""

    def __init__(self) -> None:
        self.received = b""
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


class Tap:
    """A reader on a socket, and the handler behind it."""

    def __init__(self) -> None:
        self.socket, self.handler = Socket(), Handler()
        self.reader = ChunkReader(self.handler, self.socket)

    @property
    def handed_back(self) -> bool:
        return self.socket.protocol is self.handler and not self.reader.flowing


@pytest.fixture
def tap() -> Tap:
    return Tap()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_a_body_comes_without_its_framing_and_its_end_goes_to_aiohttp(tap: Tap) -> None:
    tap.socket.brings(HEAD)
    tap.socket.brings(chunk(b"data: 1\n\n") + chunk(b"data: 2\n\n"))
    tap.socket.brings(b"0\r\n\r\n")

    assert tap.reader.take() == b"data: 1\n\ndata: 2\n\n"
    assert tap.handler.received == HEAD + b"0\r\n\r\n"
    assert tap.handed_back


def test_what_comes_with_the_head_belongs_to_the_body(tap: Tap) -> None:
    tap.socket.brings(HEAD + chunk(b"data: 1\n\n"))

    assert tap.reader.take() == b"data: 1\n\n"
    assert tap.handler.received == HEAD


@given(
    parts=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    tears=st.lists(st.integers(0, 300), max_size=12),
    end=st.sampled_from(
        [b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"00\r\n\r\n", b"5;a=b\r\nhello\r\n", b"oops\r\n"]
    ),
)
def test_wherever_reads_tear_the_chunks_nothing_is_lost_or_added(
    parts: list[bytes], tears: list[int], end: bytes
) -> None:
    tap = Tap()
    body = b"".join(map(chunk, parts)) + end
    cuts = [0, *sorted({tear for tear in tears if 0 < tear < len(body)}), len(body)]

    tap.socket.brings(HEAD)
    for start, stop in pairwise(cuts):
        tap.socket.brings(body[start:stop])

    assert tap.reader.take() == b"".join(parts)
    assert tap.handler.received == HEAD + end
    assert tap.handed_back


def test_the_beginning_of_a_long_chunk_does_not_wait_for_its_end(tap: Tap) -> None:
    tap.socket.brings(HEAD)
    tap.socket.brings(b"ffff\r\ndata: 1\n\n")

    assert tap.reader.take() == b"data: 1\n\n"


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(HEAD.replace(b"200 OK", b"500 No"), id="error"),
        pytest.param(HEAD.replace(b"200 OK", b"100 Continue"), id="informational"),
        pytest.param(HEAD.replace(b"1.1", b"1.0"), id="1.0"),
        pytest.param(HEAD.replace(b"chunked", b"gzip, chunked"), id="compressed chunks"),
        pytest.param(
            HEAD.replace(b"Transfer-Encoding: chunked", b"Content-Length: 5"), id="length"
        ),
        pytest.param(HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n"), id="gzip"),
        pytest.param(HEAD.replace(b"\r\n\r\n", b"\r\n , gzip\r\n\r\n"), id="folded"),
        pytest.param(HEAD.replace(b"\r\nTr", b"\n\nTr"), id="bare line feeds"),
        pytest.param(b"\x16\x03\x01", id="not HTTP"),
        pytest.param(HEAD[:-1], id="torn"),
    ],
)
def test_what_is_not_a_plain_chunked_answer_is_left_to_aiohttp(tap: Tap, head: bytes) -> None:
    tap.socket.brings(head + b"5\r\nhello\r\n")

    assert tap.handler.received == head + b"5\r\nhello\r\n"
    assert tap.handed_back


@pytest.mark.parametrize("end", [b"XX", b"\rX", b"X"])
@pytest.mark.parametrize("at_once", [1, None])
def test_a_chunk_that_does_not_end_where_it_said_breaks_the_connection(
    tap: Tap, end: bytes, at_once: int | None
) -> None:
    """aiohttp then tells that the body is not complete: it has not seen its end."""
    tap.socket.brings(HEAD)
    tap.socket.brings(b"5\r\nhello" + end + b"0\r\n\r\n", at_once=at_once)

    assert tap.socket.aborted
    assert tap.handler.received == HEAD


async def test_a_reader_that_is_slow_holds_the_socket_up(
    tap: Tap, loop: asyncio.AbstractEventLoop
) -> None:
    tap.socket.brings(HEAD)
    tap.socket.brings(chunk(b"x" * (HIGH_WATER + 1)))
    assert tap.socket.paused

    tap.reader.take()
    await asyncio.sleep(0)

    assert not tap.socket.paused


async def test_a_flood_that_is_pushed_lets_others_have_their_turn(
    tap: Tap, loop: asyncio.AbstractEventLoop
) -> None:
    """The loop reads from a socket again and again, up to 32 times, while it is not paused."""
    tap.socket.brings(HEAD)
    pushing = asyncio.ensure_future(tap.reader.push(lambda data: True))
    await asyncio.sleep(0)

    tap.socket.brings(chunk(b"x" * (HIGH_WATER + 1)))
    assert tap.socket.paused
    await asyncio.sleep(0)

    assert not tap.socket.paused
    pushing.cancel()
    await asyncio.wait([pushing])


async def test_what_aiohttp_has_paused_since_stays_so(
    tap: Tap, loop: asyncio.AbstractEventLoop
) -> None:
    tap.socket.brings(HEAD)
    tap.socket.brings(chunk(b"x" * (HIGH_WATER + 1)))
    tap.reader.take()
    tap.socket.brings(b"0\r\n\r\n")
    tap.socket.pause_reading()
    await asyncio.sleep(0)

    assert tap.socket.paused


def test_a_lost_connection_is_told_to_aiohttp(tap: Tap) -> None:
    tap.socket.brings(HEAD)

    tap.reader.connection_lost(None)

    assert tap.handler.lost
    assert not tap.reader.flowing


async def test_a_sink_gets_what_waited_and_what_comes_until_it_has_enough(
    tap: Tap, loop: asyncio.AbstractEventLoop
) -> None:
    sunk: list[bytes] = []

    def sink(data: bytes) -> bool:
        sunk.append(data)
        return data != b"enough"

    tap.socket.brings(HEAD + chunk(b"waited"))
    pushing = asyncio.ensure_future(tap.reader.push(sink))
    await asyncio.sleep(0)
    tap.socket.brings(chunk(b"came"))
    tap.socket.brings(chunk(b"enough"))
    tap.socket.brings(chunk(b"more"))
    await pushing

    assert sunk == [b"waited", b"came", b"enough"]
    assert tap.reader.take() == b"more"


async def test_what_a_sink_raises_is_raised_where_it_was_given(
    tap: Tap, loop: asyncio.AbstractEventLoop
) -> None:
    def sink(data: bytes) -> bool:
        raise ValueError(data)

    tap.socket.brings(HEAD)
    pushing = asyncio.ensure_future(tap.reader.push(sink))
    await asyncio.sleep(0)
    tap.socket.brings(chunk(b"first"))
    tap.socket.brings(chunk(b"second"))

    with pytest.raises(ValueError, match="first"):
        await pushing
    assert tap.reader.take() == b"second"


async def test_what_a_sink_raises_is_not_lost_when_a_torn_chunk_came_just_before(
    tap: Tap, loop: asyncio.AbstractEventLoop
) -> None:
    """Two reads in one pass of the loop: the first had woken the pusher already, for nothing."""

    def sink(data: bytes) -> bool:
        raise ValueError(data)

    tap.socket.brings(HEAD)
    pushing = asyncio.ensure_future(tap.reader.push(sink))
    await asyncio.sleep(0)
    tap.socket.brings(b"5")
    tap.socket.brings(b"\r\nfirst\r\n")

    with pytest.raises(ValueError, match="first"):
        await pushing


async def test_words_are_pushed_in_the_context_of_whoever_takes_them(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    """The socket's callbacks run in the context of the turn that opened it, which may be another."""
    taking = asyncio.Event()

    async def says_one_word_and_then_another(reply: Reply) -> None:
        first, second, *rest = events("Hello", " world")[1:]
        reply.head()
        reply.send(first)
        await taking.wait()
        reply.send(second)
        await pushed.wait()
        reply.send(b"".join(rest))
        reply.end()

    whose, seen, pushed = ContextVar("whose", default="nobody's"), [], asyncio.Event()

    def take(batch: Batch) -> None:
        seen.append((batch, whose.get()))
        pushed.set()

    upstream.plays(says_one_word_and_then_another)
    provider = OpenAI(transport, api_key="k", model="m", base_url=upstream.url)
    async with aclosing(provider.stream(prompt)) as batches:
        async for batch in batches:
            if isinstance(batch, Offer) and has_text(batch):
                whose.set("mine")
                taking.set()
                await batch.push(take)

    assert seen == [([TextDelta(" world")], "mine")]
