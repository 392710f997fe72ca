"""Every way a request can fail is one JSON shape, and the next request is served."""

from __future__ import annotations

import json
import re
from contextlib import suppress

import aiohttp
import pytest
from chat_client import CHAT, ChatClient, raw_exchange
from sanic.exceptions import SanicException, ServiceUnavailable, Unauthorized

from blueprints.openapi import document
from sanic_server import serve
from services.errors import Overloaded

CODE = document()["components"]["schemas"]["Problem"]["properties"]["code"]["pattern"]
PING = "/api/v1/auth/ping"
BEARER = 'Bearer error="invalid_token"'
BASIC = {"www-authenticate": 'Basic realm="x"'}
AFTER_7 = {"retry-after": "7"}


def problem(raw: bytes) -> tuple[int, dict]:
    """Status and error of a raw response."""
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)["error"]


async def test_a_body_that_is_too_large_is_413_before_it_is_read(client: ChatClient, bearer):
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: {bearer['Authorization']}\r\nContent-Length: 1000000\r\n\r\n"
    )

    status, error = problem(await raw_exchange(client.port, head.encode()))

    assert (status, error["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_authentication_is_decided_before_the_body_is_read(client: ChatClient):
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        "Content-Length: 1000000\r\n\r\n"
    )

    status, error = problem(await raw_exchange(client.port, head.encode()))

    assert (status, error["code"]) == (401, "UNAUTHORIZED")


async def test_401_says_how_to_authenticate(client: ChatClient):
    reply = await client.send("POST", CHAT, json={}, headers={"Authorization": "Bearer nonsense"})

    assert reply.status == 401
    assert reply.headers["www-authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", CHAT, {"POST", "HEAD"}),
        ("GET", CHAT, {"POST", "HEAD"}),
        ("POST", PING, {"GET", "HEAD"}),
        ("PATCH", f"{CHAT}/str_x", {"GET", "HEAD", "DELETE"}),
    ],
)
async def test_another_method_is_405_and_told_which_are_allowed(client, method, path, allowed):
    reply = await client.send(method, path)

    assert reply.status == 405
    assert reply.error["code"] == "METHOD_NOT_ALLOWED"
    assert allowed <= set(re.split(r", *", reply.headers["allow"]))


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/v1/chat/nothing/here", "/..%2f", "/api/v2/chat"]
)
async def test_an_unknown_path_is_404(client: ChatClient, path):
    reply = await client.send("GET", path)

    assert reply.status == 404
    assert reply.error["code"] == "NOT_FOUND"
    assert reply.headers["x-request-id"] == reply.error["request_id"]


@pytest.mark.parametrize(
    "path", [CHAT, PING, "/docs", "/docs/openapi.json", "/nothing", f"{CHAT}/x"]
)
async def test_head_has_headers_only_and_never_fails(client: ChatClient, path):
    reply = await client.send("HEAD", path)

    assert reply.status < 500
    assert reply.body == b""


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST /api/v1/chat HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (
            b"POST /api/v1/chat HTTP/1.1\r\nHost: x\r\nExpect: magic\r\nContent-Length: 1\r\n\r\nx",
            417,
        ),
    ],
    ids=["line", "version", "url", "header", "colon", "length", "expect"],
)
async def test_broken_http_gets_the_same_shape(client: ChatClient, data, expected):
    status, error = problem(await raw_exchange(client.port, data))

    assert status == expected
    assert set(error) == {"code", "message", "request_id"}


async def test_a_body_that_does_not_come_is_408(serving, bearer):
    client = await serving({"REQUEST_TIMEOUT_MS": "200"})
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: {bearer['Authorization']}\r\nContent-Length: 20\r\n\r\n{{"
    )

    status, error = problem(await raw_exchange(client.port, head.encode()))

    assert (status, error["code"]) == (408, "REQUEST_TIMEOUT")


async def test_a_500_says_nothing_of_the_inside(make_app, bearer):
    app = make_app()

    @app.get("/broken", ctx_public=True)
    async def broken(request):
        raise RuntimeError("the inside")

    async with serve(app) as server, aiohttp.ClientSession() as session:
        reply = await ChatClient(session, server, bearer).send("GET", "/broken")

    assert reply.status == 500
    assert reply.error["code"] == "INTERNAL_ERROR"
    assert reply.error["message"] == "Internal server error."


@pytest.mark.parametrize(
    ("raised", "status", "code", "headers"),
    [
        (Unauthorized("no"), 401, "UNAUTHORIZED", {"www-authenticate": BEARER}),
        (Unauthorized(scheme="Basic", realm="x"), 401, "UNAUTHORIZED", BASIC),
        (ServiceUnavailable(headers={"Retry-After": 7}), 503, "SERVICE_UNAVAILABLE", AFTER_7),
        (ServiceUnavailable(), 503, "SERVICE_UNAVAILABLE", {"retry-after": "1"}),
        (SanicException(status_code=429), 429, "TOO_MANY_REQUESTS", {"retry-after": "1"}),
        (SanicException(status_code=404, headers={"x-a": "b"}), 404, "NOT_FOUND", {"x-a": "b"}),
        (Overloaded(), 503, "OVERLOADED", {"retry-after": "1"}),
        (SanicException(status_code=599), 599, "STATUS_599", {}),
        (SanicException(status_code=299), 500, "INTERNAL_ERROR", {}),
    ],
    ids=repr,
)
async def test_what_a_plug_in_raises_in_sanics_words_keeps_its_headers_and_what_the_status_promises(
    make_app, bearer, raised, status, code, headers
):
    app = make_app()

    @app.get("/refuses", ctx_public=True)
    async def refuses(request):
        raise raised

    async with serve(app) as server, aiohttp.ClientSession() as session:
        reply = await ChatClient(session, server, bearer).send("GET", "/refuses")

    assert (reply.status, reply.error["code"]) == (status, code)
    assert re.fullmatch(CODE, code)
    assert headers.items() <= {name.lower(): value for name, value in reply.headers.items()}.items()
    assert len(reply.headers.getall("retry-after", [])) <= 1


async def test_the_next_client_is_served_after_any_failure(client: ChatClient):
    for data in (b"NONSENSE\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n"):
        with suppress(TimeoutError):
            await raw_exchange(client.port, data, patience=0.2)

    assert (await client.ask("hi")).status == 200


@pytest.mark.parametrize("path", ["/docs", "/docs/openapi.json", "/metrics", PING])
async def test_head_is_answered_wherever_get_is(client, path):
    got = await client.send("GET", path)
    reply = await client.send("HEAD", path)

    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["content-type"] == got.headers["content-type"]
