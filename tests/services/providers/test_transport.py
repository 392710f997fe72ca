"""Sockets: pooled, overflowing, silent, broken, left and reused."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest
from answers import batches_of, collect, events_of, failure_of, settled, text_of, until
from certificates import self_signed
from upstream import (
    DONE,
    Reply,
    Script,
    Upstream,
    chunk,
    hangs,
    lingers,
    openai,
    openai_events,
    repeats,
    role_chunk,
    sends,
    sends_at_once,
)

from services.errors import Phase, ProviderTimeout, ProviderUnavailable
from services.events import Attempt, Batch, Connected, Event, Finish, Offer, TextDelta
from services.providers.exchange import Exchange
from services.providers.openai import OpenAI
from services.providers.transport import Transport
from services.turn import Prompt

pytestmark = pytest.mark.usefixtures("reading")


def openai_at(transport: Transport, url: str) -> OpenAI:
    return OpenAI(transport, api_key="k", model="gpt-4o-mini", base_url=url)


async def test_turns_one_after_the_other_share_a_socket(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    provider = openai_at(transport, upstream.url)

    for _ in range(5):
        await events_of(provider, prompt)
        await settled(transport)

    assert upstream.connections == 1
    assert (transport.connects, transport.pool_hits, transport.overflows) == (1, 4, 0)
    assert transport.connect_seconds > 0


async def test_a_reused_socket_took_no_time_to_connect(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    provider = openai_at(transport, upstream.url)
    await events_of(provider, prompt)
    await settled(transport)

    _, (connected, *_), *_ = await batches_of(provider, prompt)

    assert connected == Connected("openai", "gpt-4o-mini", 0.0)


@pytest.mark.parametrize("leaves", [True, False])
async def test_finish_does_not_wait_for_the_end_of_the_body_and_the_socket_does(
    transport: Transport, upstream: Upstream, prompt: Prompt, leaves: bool
) -> None:
    """The socket is reused only if it was read to its end, also when the reader leaves at `Finish`."""
    end_of_body = asyncio.Event()
    upstream.plays(lingers(*openai_events("Hello"), after=end_of_body), openai("again"))
    provider = openai_at(transport, upstream.url)

    async with aclosing(provider.stream(prompt)) as batches:
        async for batch in batches:
            if leaves and isinstance(batch[-1], Finish):
                break
    assert transport.open == 1
    end_of_body.set()
    await settled(transport)

    assert await text_of(provider, prompt) == "again"
    assert upstream.connections == 1


async def test_a_socket_whose_body_does_not_end_is_not_used_again(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(lingers(*openai_events("Hello"), after=asyncio.Event()), openai("again"))
    provider = openai_at(transport, upstream.url)

    await events_of(provider, prompt)
    text = await text_of(provider, prompt)

    assert text == "again"
    assert upstream.connections == 2


async def test_the_stream_beyond_the_pool_gets_a_socket_of_its_own_that_is_closed_after_use(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(repeats(chunk("x")))
    provider = openai_at(transport, upstream.url)
    running = [provider.stream(prompt) for _ in range(3)]
    for batches in running:
        await anext(batches)
        await anext(batches)
    upstream.plays(openai("Hello"))

    await events_of(provider, prompt)
    await upstream.connected(3)

    assert upstream.requests[3].headers["connection"] == "close"
    assert transport.overflows == 1
    for batches in running:
        await batches.aclose()
    assert transport.open == 0


async def test_of_110_streams_on_50_sockets_nobody_waits_for_a_socket(
    upstream: Upstream, prompt: Prompt
) -> None:
    """aiohttp's own limit makes the 51st wait until another stream ends."""
    everybody_is_here = asyncio.Event()
    upstream.plays(lingers(*openai_events("Hello", "you"), after=everybody_is_here))
    async with Transport("openai", max_sockets=50) as transport:
        provider = openai_at(transport, upstream.url)

        answers = await asyncio.gather(*(text_of(provider, prompt) for _ in range(110)))

        assert answers == ["Helloyou"] * 110  # although not one of 110 bodies has ended
        assert len(upstream.requests) == 110
        assert (transport.connects, transport.overflows) == (110, 60)
        await upstream.connected(50)
        everybody_is_here.set()
        await settled(transport)
        assert len(upstream.open) == 50


async def test_an_idle_socket_that_breaks_is_nobody_s_error(
    transport: Transport, upstream: Upstream, prompt: Prompt, caplog: pytest.LogCaptureFixture
) -> None:
    provider = openai_at(transport, upstream.url)
    await events_of(provider, prompt)
    await settled(transport)

    for connection in tuple(upstream.open):
        connection.transport.abort()
    await upstream.connected(0)
    await asyncio.sleep(0.02)  # the reset has arrived
    text = await text_of(provider, prompt)
    gc.collect()

    assert text == "Hello world"
    assert upstream.connections == 2
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("script", "phase", "said"),
    [
        pytest.param(hangs(headers=False), "first_token", "", id="before headers"),
        pytest.param(hangs(), "first_token", "", id="after headers"),
        pytest.param(hangs(role_chunk()), "first_token", "", id="after the role"),
        pytest.param(repeats(role_chunk()), "first_token", "", id="nothing but roles"),
        pytest.param(repeats(b": busy\n\n"), "first_token", "", id="nothing but comments"),
        pytest.param(hangs(chunk("Hel")), "idle", "Hel", id="in mid-stream"),
    ],
)
async def test_a_silence_of_any_kind_ends_in_a_timeout_that_names_its_phase(
    upstream: Upstream, prompt: Prompt, script: Script, phase: Phase, said: str
) -> None:
    upstream.plays(script)
    first = 0.1 if phase == "first_token" else 60.0
    async with Transport("openai", first_token_timeout=first, idle_timeout=0.1) as transport:
        text, error = await failure_of(openai_at(transport, upstream.url), prompt)

        assert isinstance(error, ProviderTimeout)
        assert (error.phase, text) == (phase, said)
        assert error.retryable
        await upstream.abandoned()


async def test_the_gap_between_tokens_may_be_shorter_than_the_patience_for_the_first(
    upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(hangs(chunk("Hel")))
    async with Transport("openai", first_token_timeout=60, idle_timeout=0.05) as transport:
        _, error = await failure_of(openai_at(transport, upstream.url), prompt)

        assert error.phase == "idle"


async def test_steady_tokens_outlive_every_deadline_but_the_total(
    upstream: Upstream, prompt: Prompt
) -> None:
    words = [chunk("x") for _ in range(40)]
    upstream.plays(sends([*words, chunk(reason="stop"), DONE], pause=0.04))
    async with Transport("openai", first_token_timeout=1.2, idle_timeout=1.2) as transport:
        text = await text_of(openai_at(transport, upstream.url), prompt)

        assert text == "x" * 40


async def test_a_slow_consumer_is_not_the_provider_s_silence(
    upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(openai("Hello", " world"))
    async with Transport("openai", first_token_timeout=0.5, idle_timeout=0.5) as transport:
        said = ""
        async for batch in openai_at(transport, upstream.url).stream(prompt):
            said += "".join(event.text for event in batch if isinstance(event, TextDelta))
            await asyncio.sleep(0.6)

        assert said == "Hello world"


@pytest.mark.parametrize("script", [hangs(headers=False), hangs(), repeats(chunk("x"))])
async def test_the_prompt_s_deadline_ends_an_answer_in_every_phase(
    transport: Transport, upstream: Upstream, prompt: Prompt, script: Script
) -> None:
    upstream.plays(script)
    soon = asyncio.get_running_loop().time() + 0.1
    limited = Prompt(prompt.system, prompt.messages, deadline=soon)

    _, error = await failure_of(openai_at(transport, upstream.url), limited)

    assert isinstance(error, ProviderTimeout)
    assert error.phase == "total"
    assert not error.retryable
    await upstream.abandoned()


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port where the connection attempt gets no answer, as at a host behind a silent firewall."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        with closing(socket.socket()) as first, closing(socket.socket()) as second:
            for queued in (first, second):
                queued.setblocking(False)
                queued.connect_ex(("127.0.0.1", port))
            yield port


async def test_a_connection_that_is_not_answered_ends_in_a_timeout(
    full_port: int, prompt: Prompt
) -> None:
    async with Transport("openai", connect_timeout=0.1) as transport:
        _, error = await failure_of(
            openai_at(transport, f"http://127.0.0.1:{full_port}/v1"), prompt
        )

    assert isinstance(error, ProviderTimeout)
    assert error.phase == "connect"


async def test_a_refused_connection_is_a_provider_that_is_unavailable(
    transport: Transport, unused_port: int, prompt: Prompt
) -> None:
    _, error = await failure_of(openai_at(transport, f"http://127.0.0.1:{unused_port}/v1"), prompt)

    assert isinstance(error, ProviderUnavailable)
    assert error.phase == "connect"


async def test_leaving_while_it_connects_leaves_no_socket(
    transport: Transport, full_port: int, prompt: Prompt
) -> None:
    before = _open_files()
    asking = asyncio.ensure_future(
        events_of(openai_at(transport, f"http://127.0.0.1:{full_port}/v1"), prompt)
    )
    await until(lambda: _open_files() > before)

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert _open_files() == before
    assert transport.open == 0


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a Path would be slower and no clearer


@pytest.mark.parametrize(
    ("script", "last"),
    [
        pytest.param(hangs(headers=False), Attempt, id="waiting for headers"),
        pytest.param(hangs(), Connected, id="waiting for the first token"),
        pytest.param(hangs(chunk("Hel")), TextDelta, id="waiting for the next token"),
    ],
)
async def test_cancelling_closes_the_upstream_at_once(
    transport: Transport, upstream: Upstream, prompt: Prompt, script: Script, last: type[Event]
) -> None:
    upstream.plays(script)
    seen: list[Event] = []
    asking = asyncio.ensure_future(collect(openai_at(transport, upstream.url), prompt, seen))
    await upstream.asked(1)
    await until(lambda: any(isinstance(event, last) for event in seen))

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await upstream.abandoned()

    assert transport.open == 0


async def test_closing_the_generator_closes_the_upstream_at_once(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(repeats(chunk("x")))
    batches = openai_at(transport, upstream.url).stream(prompt)
    await anext(batches)
    await anext(batches)

    await batches.aclose()
    await upstream.abandoned()

    assert transport.open == 0


async def test_who_will_not_hear_of_a_connection_leaves_none_behind(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    """A hook may fail there, in the middle of aiohttp."""

    def take(batch: Batch) -> None:
        raise LookupError

    async with aclosing(openai_at(transport, upstream.url).stream(prompt)) as batches:
        question = await anext(batches)
        assert isinstance(question, Offer)
        with pytest.raises(LookupError):
            await question.push(take)

    assert transport.open == 0
    await upstream.connected(0)


async def test_closing_the_transport_ends_streams_that_still_run(
    upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(hangs(chunk("Hel")))
    seen: list[Event] = []
    async with Transport("openai") as transport:
        asking = asyncio.ensure_future(collect(openai_at(transport, upstream.url), prompt, seen))
        await until(lambda: TextDelta("Hel") in seen)

    with pytest.raises(ProviderUnavailable):
        await asking


async def test_a_certificate_nobody_vouches_for_is_refused(
    transport: Transport, prompt: Prompt, tmp_path: Path
) -> None:
    async with Upstream(tls=self_signed(tmp_path, host="localhost")) as upstream:
        _, error = await failure_of(openai_at(transport, upstream.url), prompt)

    assert isinstance(error, ProviderUnavailable)
    assert error.phase == "connect"
    assert "CertificateError" in str(error)
    assert upstream.requests == []


async def test_a_proxy_is_asked_for_a_plain_url_with_its_own_credentials(
    upstream: Upstream, prompt: Prompt
) -> None:
    host = upstream.origin.removeprefix("http://")
    async with Transport("openai", proxy=f"http://me:secret@{host}") as transport:
        text = await text_of(openai_at(transport, "http://provider.example/v1"), prompt)

    assert text == "Hello world"
    (request,) = upstream.requests
    assert request.target == "http://provider.example/v1/chat/completions"
    assert request.headers["proxy-authorization"] == "Basic bWU6c2VjcmV0"
    assert request.headers["authorization"] == "Bearer k"


async def test_a_proxy_that_refuses_the_tunnel_makes_the_provider_unavailable(
    upstream: Upstream, prompt: Prompt
) -> None:
    async def refuse(reply: Reply) -> None:
        reply.raw(b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n")

    upstream.plays(refuse)
    async with Transport("openai", proxy=upstream.origin) as transport:
        _, error = await failure_of(openai_at(transport, "https://provider.example/v1"), prompt)

    assert isinstance(error, ProviderUnavailable)
    (request,) = upstream.requests
    assert (request.method, request.target) == ("CONNECT", "provider.example:443")
    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "http://me:secret@proxy:3128"}, "http://me:secret@proxy:3128"),
        ({"HTTPS_PROXY": "proxy:3128"}, "http://proxy:3128"),
        ({"HTTP_PROXY": "http://proxy:3128"}, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "openai.com"}, None),
    ],
)
def test_the_proxy_is_the_environment_s(variables: dict[str, str], proxy: str | None) -> None:
    assert _proxy_in(variables).stdout.strip() == str(proxy)


def test_a_proxy_that_speaks_something_else_is_refused_by_the_name_of_its_variable() -> None:
    refused = _proxy_in({"HTTPS_PROXY": "socks5://me:secret@proxy:1080"})

    assert refused.stderr.splitlines()[-1] == (
        "ValueError: HTTPS_PROXY must be an HTTP proxy, not socks5://"
    )


def _proxy_in(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What `proxy_for` says in a process with these environment variables."""
    code = "from services.providers.transport import proxy_for; print(proxy_for('https://api.openai.com/v1'))"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
    )


class Watched(Transport):
    """A transport that lets a test see what becomes of its exchanges."""

    async def post(self, *args: Any, **kwargs: Any) -> Exchange:
        exchange = await super().post(*args, **kwargs)
        self.last = weakref.ref(exchange)
        return exchange


@pytest.mark.parametrize(
    "script", [sends(openai_events("Hello")), sends_at_once(*openai_events("Hello"))]
)
async def test_nothing_is_left_of_an_answer_that_ended(
    upstream: Upstream, prompt: Prompt, script: Script
) -> None:
    """A timer that is armed again after the end would keep it, for ever."""
    upstream.plays(script)
    async with Watched("openai") as transport:
        await events_of(openai_at(transport, upstream.url), prompt)
        await settled(transport)
        gc.collect()

        assert transport.last() is None
