"""The way to a provider: certificates, proxies, and the environment that names them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from answers import failure_of, openai_at, text_of
from certificates import self_signed
from upstream import Reply, Upstream

from services.errors import ProviderUnavailable
from services.providers.transport import Transport
from services.turn import Prompt

pytestmark = pytest.mark.usefixtures("reading")


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


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("socks5://me:secret@proxy:1080", "must be an HTTP proxy, not socks5://"),
        ("http://me:secret@proxy:many", "must be http://HOST:PORT or https://HOST:PORT"),
        ("http://", "must be http://HOST:PORT or https://HOST:PORT"),
        ("http://me:secret@:3128", "must be http://HOST:PORT or https://HOST:PORT"),
    ],
)
def test_a_proxy_that_is_none_is_refused_by_the_name_of_its_variable(proxy: str, said: str) -> None:
    refused = _proxy_in({"HTTPS_PROXY": proxy})

    last = refused.stderr.splitlines()[-1]
    assert last == f"services.providers.transport.BadProxy: HTTPS_PROXY: {said}"


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
