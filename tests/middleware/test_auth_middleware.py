from __future__ import annotations

import asyncio

import pytest
from small_app import bearer, built_in, client_of, small_app


@pytest.fixture
def app():
    return small_app(built_in("request_id", "auth"))


async def test_a_valid_token_names_its_user(app):
    async with client_of(app) as client:
        answer = await client.get("/closed", bearer(sub="user-7"))

    assert (answer.status, answer.body) == (200, "user-7")


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Basic dTpw", "Bearer not.a.token"]
)
async def test_a_route_that_is_not_public_refuses_anyone_else(app, authorization):
    headers = {} if authorization is None else {"authorization": authorization}

    async with client_of(app) as client:
        answer = await client.get("/closed", headers)

    assert (answer.status, answer.body) == (401, '{"code":"UNAUTHORIZED","details":{}}')
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize("changed", [{"exp": 1}, {"aud": "other"}, {"sub": " "}])
async def test_a_token_that_does_not_hold_is_refused(app, changed):
    async with client_of(app) as client:
        answer = await client.get("/closed", bearer(**changed))

    assert answer.status == 401


async def test_two_tokens_are_no_token(app):
    """A proxy may have checked the other one."""
    headers = [("authorization", bearer(sub=user)["authorization"]) for user in ("one", "two")]

    async with client_of(app) as client:
        answer = await client.get("/closed", headers)

    assert answer.status == 401


async def test_a_public_route_asks_for_nothing(app):
    async with client_of(app) as client:
        answer = await client.get("/open", {"authorization": "nonsense"})

    assert answer.status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("PUT", "/closed", 405)]
)
async def test_where_there_is_no_route_the_token_does_not_matter(app, method, path, status):
    async with client_of(app) as client:
        answer = await client.send(method, path)

    assert answer.status == status


async def test_options_passes_without_a_token(app):
    async with client_of(app) as client:
        answer = await client.send("OPTIONS", "/any")

    assert (answer.status, answer.body) == (200, "OPTIONS")


async def test_head_is_guarded_like_get(app):
    async with client_of(app) as client:
        statuses = [(await client.send("HEAD", path)).status for path in ("/both", "/closed")]

    assert statuses == [200, 401]


async def test_the_refusal_comes_before_the_body_is_sent(app):
    """Neither a slow nor a large body is worth a stranger's wait."""
    head = (
        b"POST /upload HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n"
    )

    async with client_of(app) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.server.port)
        writer.write(head)
        status_line = await reader.readline()
        writer.close()
        await writer.wait_closed()

    assert status_line == b"HTTP/1.1 401 Unauthorized\r\n"
    assert not app.ctx.reached.is_set()
