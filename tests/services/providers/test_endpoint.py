"""The head of a request, to the byte, for every kind of URL and way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from services.providers.endpoint import Endpoint

KEY = {"content-type": "application/json", "authorization": "Bearer sk-planted"}
PROXY = "http://me:s%3Acret@proxy.example:3128"


@pytest.fixture
def endpoint(loop: asyncio.AbstractEventLoop) -> Callable[..., Endpoint]:
    def made(url: str, headers: dict[str, str] = KEY, *, proxy: str | None = None) -> Endpoint:
        return Endpoint(url, headers, proxy=proxy, loop=loop)

    return made


def test_a_request_is_these_bytes(endpoint: Callable[..., Endpoint]) -> None:
    request = endpoint("https://api.openai.com/v1/chat/completions").request(b'{"a":"\xc3\xa9"}')

    assert request == (
        b"POST /v1/chat/completions HTTP/1.1\r\n"
        b"host: api.openai.com\r\n"
        b"user-agent: ai-chat-api\r\n"
        b"accept-encoding: identity\r\n"
        b"content-type: application/json\r\n"
        b"authorization: Bearer sk-planted\r\n"
        b"accept: */*\r\n"
        b"content-length: 10\r\n"
        b"\r\n"
        b'{"a":"\xc3\xa9"}'
    )


def test_the_last_request_of_a_connection_says_so(endpoint: Callable[..., Endpoint]) -> None:
    request = endpoint("https://api.openai.com/v1/chat/completions").request(b"{}", last=True)

    assert b"\r\nconnection: close\r\n" in request
    assert request.endswith(b"\r\ncontent-length: 2\r\n\r\n{}")


@pytest.mark.parametrize(
    ("url", "target", "host"),
    [
        pytest.param("http://a.example:80/v1", "/v1", "a.example", id="usual port"),
        pytest.param("https://a.example:80/v1", "/v1", "a.example:80", id="unusual port"),
        pytest.param("http://[::1]:8000/v1", "/v1", "[::1]:8000", id="IPv6"),
        pytest.param("https://[2001:db8::1]/v1", "/v1", "[2001:db8::1]", id="IPv6, usual port"),
        pytest.param("http://a.example", "/", "a.example", id="no path"),
        pytest.param("http://a.example/a%2Fb%20c", "/a%2Fb%20c", "a.example", id="encoded"),
        pytest.param("http://a.example/a b/ü", "/a%20b/%C3%BC", "a.example", id="odd characters"),
        pytest.param("http://a.example/x\r\ny: z", "/xy:%20z", "a.example", id="line end"),
        pytest.param("http://a.example/v1?x=1&y=a b#f", "/v1?x=1&y=a+b", "a.example", id="query"),
        pytest.param("http://Bücher.example/v1", "/v1", "xn--bcher-kva.example", id="IDN"),
    ],
)
def test_a_url_becomes_a_target_and_a_host(
    endpoint: Callable[..., Endpoint], url: str, target: str, host: str
) -> None:
    line, host_line, *_ = endpoint(url).request(b"").decode().split("\r\n")

    assert line == f"POST {target} HTTP/1.1"
    assert host_line == f"host: {host}"


def test_a_proxy_gets_the_whole_url_and_its_own_credentials(
    endpoint: Callable[..., Endpoint],
) -> None:
    request = endpoint("http://a.example:8080/v1?x=1#f", proxy=PROXY).request(b"")

    line, host, *fields = request.decode().split("\r\n")
    assert line == "POST http://a.example:8080/v1?x=1 HTTP/1.1"
    assert host == "host: a.example:8080"
    assert "proxy-authorization: Basic bWU6czpjcmV0" in fields
    assert "authorization: Bearer sk-planted" in fields


def test_through_a_tunnel_the_provider_sees_nothing_of_the_proxy(
    endpoint: Callable[..., Endpoint],
) -> None:
    url = "https://a.example/v1"

    assert endpoint(url, proxy=PROXY).request(b"x") == endpoint(url).request(b"x")


@pytest.mark.parametrize("proxy", [None, PROXY])
def test_a_user_in_the_url_becomes_a_header_and_leaves_the_url(
    endpoint: Callable[..., Endpoint], proxy: str | None
) -> None:
    made = endpoint("http://user:p%40ss@a.example/v1", {}, proxy=proxy)

    request = made.request(b"").decode()
    assert "\r\nauthorization: Basic dXNlcjpwQHNz\r\n" in request
    assert "user:p" not in request
    assert "p%40ss" not in str(made.route.url)


@pytest.mark.parametrize("url", ["http://user:pw@a.example/v1", "http://:pw@a.example/v1"])
def test_a_user_in_the_url_and_a_key_are_one_too_many(
    endpoint: Callable[..., Endpoint], url: str
) -> None:
    with pytest.raises(ValueError, match="which is it") as refused:
        endpoint(url)

    assert "pw" not in str(refused.value)


@pytest.mark.parametrize("control", ["\r\n", "\n", "\r", "\0", "\x1f", "\x7f"])
@pytest.mark.parametrize("where", ["name", "value"])
def test_what_could_end_a_line_is_refused_and_not_quoted(
    endpoint: Callable[..., Endpoint], control: str, where: str
) -> None:
    """aiohttp refuses the same, though only when it sends."""
    planted = f"planted{control}x: y"
    headers = {planted: "v"} if where == "name" else {"x-api-key": planted}

    with pytest.raises(ValueError, match="control character") as refused:
        endpoint("http://a.example/v1", headers)

    assert "planted" not in str(refused.value)
