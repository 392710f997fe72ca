"""POST /api/v1/chat: what arrives, byte for byte."""

from __future__ import annotations

import asyncio
import gc

import pytest
from chat_client import ChatClient, events, raw_exchange, texts
from hypothesis import given
from hypothesis import strategies as st
from sanic import Request
from scripted_provider import STOP, USAGE, ScriptedProvider, says

from services.events import Finish, TextDelta
from services.streaming import sse

HELLO = (
    b": Connected to chat stream\n\n"
    b'event: token\ndata: {"text":"I understand you said: \\"Hello, how are you?\\". "}\n\n'
    b'event: token\ndata: {"text":"This is a stub response for Phase 4."}\n\n'
    b'event: usage\ndata: {"tokens_in":5,"tokens_out":15,"cost_usd":0.00000975,"model":"gpt-4o-mini"}\n\n'
    b'event: done\ndata: {"finish_reason":"stop"}\n\n'
)
NASTY = [
    "emoji 👩‍👩‍👧 and é",
    "\r\n\r\n",
    "\n\ndata: {}\n\nevent: done\n\n",
    "NUL \0 and BOM \ufeff",
    "separators \u2028 \u2029 \u0085 \x0b",
    "x" * 100_000,
    "\U0001d518" * 20_000,
    '"}\n\n: heartbeat',
]


async def test_the_guides_first_command_gets_the_guides_bytes(client: ChatClient):
    reply = await client.ask("Hello, how are you?")

    assert reply.status == 200
    assert reply.body == HELLO


async def test_an_answer_carries_the_headers_that_keep_proxies_from_holding_it(client: ChatClient):
    reply = await client.ask("test")

    kept = {name.lower(): value for name, value in reply.headers.items()}
    assert kept["content-type"] == "text/event-stream"
    assert kept["cache-control"] == "no-cache, no-store, must-revalidate, no-transform"
    assert kept["connection"] == "keep-alive"
    assert kept["access-control-allow-origin"] == "*"
    assert kept["x-accel-buffering"] == "no"
    assert kept["proxy-buffering"] == "off"
    assert kept["x-request-id"].startswith("req_")
    assert "x-stream-id" not in kept
    assert "content-encoding" not in kept


async def test_a_head_is_what_the_answer_would_have_and_nothing_follows(client: ChatClient, bearer):
    """A length of 0 would say that the answer is empty (RFC 9110, 8.6)."""
    asked = await client.ask("test", resumable=True)
    stream = f"/api/v1/chat/{asked.headers['x-stream-id']}"
    heads = "".join(
        f"HEAD {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer['Authorization']}\r\n{end}\r\n"
        for path, end in (("/api/v1/chat", ""), (stream, "Connection: close\r\n"))
    )

    answers = (await raw_exchange(client.port, heads.encode())).decode().split("\r\n\r\n")

    of_a_question, of_a_stream, rest = answers
    assert rest == ""
    for head in (of_a_question, of_a_stream):
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        assert "\r\ntransfer-encoding: chunked" in head
        assert "\r\ncontent-type: text/event-stream" in head
        assert "content-length" not in head
    assert f"x-stream-id: {asked.headers['x-stream-id']}" in of_a_stream


async def test_the_first_comment_leaves_before_the_provider_says_anything(serving):
    provider = ScriptedProvider(None)
    client = await serving(provider=provider)

    async with client.stream("hi") as stream:
        assert await stream.next() == b": Connected to chat stream\n\n"


async def test_the_first_comment_comes_with_the_head_in_one_write(client: ChatClient, bearer):
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    body = b'{"message":"Tell me a long story"}'
    writer.write(
        b"POST /api/v1/chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: %b\r\nContent-Length: %d\r\n\r\n%b"
        % (bearer["Authorization"].encode(), len(body), body)
    )

    first = await reader.read(65536)
    writer.close()

    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b": Connected to chat stream\n\n" in first


@pytest.mark.parametrize("text", NASTY, ids=lambda text: repr(text[:12]))
async def test_any_text_arrives_unharmed_and_forges_nothing(serving, text: str):
    client = await serving(provider=says(text, "!"))

    reply = await client.ask("hi")

    assert texts(reply.body) == text + "!"
    names = [name for name, _ in events(reply.body)]
    assert names == ["token"] * (len(names) - 2) + ["usage", "done"]
    assert reply.body.split(b"\n").count(b"event: done") == 1


@given(text=st.text(max_size=200))
def test_no_text_is_harmed_by_its_frame(text: str):
    frame = sse.encode(TextDelta(text))

    assert frame is not None
    assert frame.count(b"\n\n") == 1
    assert frame.count(b"\n") == 3
    assert texts(frame) == text


async def test_events_that_are_ready_together_leave_together(serving):
    client = await serving(
        provider=ScriptedProvider((TextDelta("a"), TextDelta("b")), (TextDelta("c"), USAGE, STOP))
    )

    async with client.stream("hi") as stream:
        chunks = [chunk async for chunk, _ in stream.response.content.iter_chunks()]

    # One write is one HTTP chunk here; nothing else frames them.
    assert [chunk.count(b"event:") for chunk in chunks if b"event:" in chunk][-1] == 3


@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
async def test_the_providers_reason_is_passed_on(serving, reason):
    client = await serving(provider=ScriptedProvider((TextDelta("a"), USAGE, Finish(reason))))

    reply = await client.ask("hi")

    assert events(reply.body)[-1] == ("done", {"finish_reason": reason})


async def test_a_provider_without_usage_is_counted_here_and_says_so(serving):
    client = await serving(provider=ScriptedProvider((TextDelta("Hello there"), STOP)))

    reply = await client.ask("hi")

    name, usage = events(reply.body)[-2]
    assert name == "usage"
    assert usage["estimated"] is True
    assert usage["tokens_in"] > 0
    assert usage["tokens_out"] > 0


async def test_heartbeats_come_while_tokens_flow_and_while_nothing_flows(serving):
    quiet, words = asyncio.Event(), [(TextDelta("x"),)] * 3
    client = await serving(
        {"OPENAI_SSE_HEARTBEAT_MS": "50"}, provider=ScriptedProvider(*words, quiet)
    )

    async with client.stream("hi") as stream:
        seen: list[bytes] = []
        while sum(frame.startswith(b": heartbeat ") for frame in seen) < 3:
            seen.append(await stream.next())

    assert all(
        frame[12:-2].isdigit() and len(frame[12:-2]) == 13
        for frame in seen
        if frame.startswith(b": heartbeat ")
    )


async def test_two_answers_on_one_connection_do_not_mix(client: ChatClient):
    first = await client.ask("one")
    second = await client.ask("two")

    assert texts(first.body).startswith('I understand you said: "one"')
    assert texts(second.body).startswith('I understand you said: "two"')


async def test_an_open_stream_has_let_go_of_its_heads(serving):
    """There may be ten thousand of them, for minutes, and nobody will read these 3 KiB again."""
    client = await serving(provider=ScriptedProvider((TextDelta("x"),), None))

    async with client.stream("hi") as stream:
        await stream.next_event()
        held = [each for each in gc.get_objects() if isinstance(each, Request)]
        [request] = [each for each in held if each.app.ctx.services is client.services]

        assert (request.head, len(request.headers)) == (b"", 0)
        assert len(request.stream.response.headers) == 0
