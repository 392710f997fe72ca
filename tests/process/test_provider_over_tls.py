"""A provider behind TLS, and behind a proxy: as an operator sets it up, by environment variables."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from certificates import Authority
from dialects import chunk
from process_service import Service, started
from replies import hangs
from tunnel_proxy import TunnelProxy
from upstream import Upstream, openai

API_KEY = "planted-key-narwhal"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def service_of(
    upstream: Upstream, folder: Path, variables: Mapping[str, str]
) -> AsyncIterator[Service]:
    """The service as a child, which asks *upstream*."""
    child = started(
        folder,
        {
            "OPENAI_API_KEY": API_KEY,
            "OPENAI_BASE_URL": upstream.url,
            "OPENAI_MAX_RETRIES": "0",
            **variables,
        },
    )
    service = await asyncio.to_thread(child.__enter__)
    try:
        yield service
    finally:
        child.__exit__(None, None, None)


@asynccontextmanager
async def chat(service: Service, bearer: dict[str, str]) -> AsyncIterator[aiohttp.StreamReader]:
    async with (
        aiohttp.ClientSession(headers=bearer) as session,
        session.post(service.url("/api/v1/chat"), json={"message": "Hello"}) as response,
    ):
        assert response.status == 200
        yield response.content


async def answer(service: Service, bearer: dict[str, str]) -> list[dict[str, Any]]:
    """The data of every event of one answer."""
    async with chat(service, bearer) as content:
        lines = (await content.read()).decode().splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


async def test_ssl_cert_file_adds_an_authority_of_one_s_own(
    loop: Any, authority: Authority, tmp_path: Path, bearer: dict[str, str]
) -> None:
    """And a TLS socket is kept for the next turn as any other is."""
    async with Upstream(tls=authority.server("localhost")) as upstream:
        upstream.plays(openai("Hello", " world"))
        trusting = {"SSL_CERT_FILE": str(authority.path)}
        async with service_of(upstream, tmp_path, trusting) as service:
            first, second, _, done = await answer(service, bearer)
            await answer(service, bearer)

        assert (first, second) == ({"text": "Hello"}, {"text": " world"})
        assert done == {"finish_reason": "stop"}
        assert upstream.requests[0].headers["authorization"] == f"Bearer {API_KEY}"
        assert [request.connection for request in upstream.requests] == [1, 1]


async def test_an_authority_nobody_added_is_refused_and_the_log_says_so(
    loop: Any, authority: Authority, tmp_path: Path, bearer: dict[str, str]
) -> None:
    async with Upstream(tls=authority.server("localhost")) as upstream:
        async with service_of(upstream, tmp_path, {}) as service:
            events = await answer(service, bearer)
            await asyncio.to_thread(service.stop)

        assert events == [
            {"text": "Server error, please try again later."},
            {"finish_reason": "error", "code": "SERVER_ERROR"},
        ]
        assert upstream.requests == []
    (line,) = [
        line
        for line in map(json.loads, service.log.read_text().splitlines())
        if line["message"] == "SSE stream error"
    ]
    assert line["phase"] == "connect"
    assert "CertificateError" in line["reason"]


async def test_a_certificate_for_another_host_is_refused(
    loop: Any, authority: Authority, tmp_path: Path, bearer: dict[str, str]
) -> None:
    async with Upstream(tls=authority.server("somebody.example")) as upstream:
        trusting = {"SSL_CERT_FILE": str(authority.path)}
        async with service_of(upstream, tmp_path, trusting) as service:
            events = await answer(service, bearer)

        assert events[-1] == {"finish_reason": "error", "code": "SERVER_ERROR"}
        assert upstream.requests == []


async def test_https_proxy_opens_a_tunnel_that_keeps_the_key_and_the_words_to_itself(
    loop: Any, authority: Authority, tmp_path: Path, bearer: dict[str, str]
) -> None:
    async with (
        Upstream(tls=authority.server("localhost")) as upstream,
        TunnelProxy() as proxy,
    ):
        variables = {
            "SSL_CERT_FILE": str(authority.path),
            "HTTPS_PROXY": f"http://me:secret@{proxy.address}",
        }
        async with service_of(upstream, tmp_path, variables) as service:
            upstream.plays(openai("Hello", " world"))
            events = await answer(service, bearer)
            await answer(service, bearer)
            upstream.plays(hangs(chunk("Hello")))
            async with chat(service, bearer) as content:
                while b"Hello" not in await content.readline():
                    pass
            await upstream.abandoned()  # by the one who left, all the way through

        assert events[:2] == [{"text": "Hello"}, {"text": " world"}]
        (tunnel,) = proxy.tunnels
        assert tunnel.target == upstream.origin.removeprefix("https://")
        assert tunnel.headers["proxy-authorization"] == "Basic bWU6c2VjcmV0"
        assert "authorization" not in tunnel.headers
        assert len(proxy.seen) > 1000
        assert API_KEY.encode() not in proxy.seen
        assert b"world" not in proxy.seen
        request = upstream.requests[0]
        assert request.headers["authorization"] == f"Bearer {API_KEY}"
        assert "proxy-authorization" not in request.headers
