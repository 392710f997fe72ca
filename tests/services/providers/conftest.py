"""What every test of a provider may use: a fake upstream, and a transport to it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import aiohttp.connector
import pytest
from answers import Reading
from certificates import Authority
from upstream import Upstream

from services.providers.openai import OpenAI
from services.providers.transport import Transport
from services.turn import Message, Prompt


@pytest.fixture(params=["pulled", "pushed"])
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the helpers of `answers` read in both ways there are: what comes is the same."""
    monkeypatch.setattr(Reading, "takes_offers", request.param == "pushed")


@pytest.fixture
async def upstream(loop: asyncio.AbstractEventLoop) -> AsyncIterator[Upstream]:
    """A provider's server, playing whatever a test gives it."""
    async with Upstream() as upstream:
        yield upstream


@pytest.fixture(params=["plain", "TLS"])
def tls(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext | None:
    """What a server on `localhost` needs for connections that are encrypted, and that we trust; or None."""
    if request.param == "plain":
        return None
    authority = Authority(tmp_path)
    trusting = ssl.create_default_context(cafile=authority.path)
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", trusting)
    return authority.server("localhost")


@pytest.fixture
async def transport(loop: asyncio.AbstractEventLoop) -> AsyncIterator[Transport]:
    """Connections with patience for everything."""
    async with Transport("openai", max_sockets=3) as transport:
        yield transport


@pytest.fixture
def provider(transport: Transport, upstream: Upstream) -> OpenAI:
    """OpenAI's dialect at `upstream`; a module that tests another one has its own."""
    return OpenAI(transport, api_key="sk-planted", model="gpt-4o-mini", base_url=upstream.url)


@pytest.fixture
def prompt() -> Prompt:
    """A question."""
    return Prompt("Be brief.", (Message("user", "Hello, how are you?"),))


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
