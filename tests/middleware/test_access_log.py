from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from patience import until
from small_app import bearer, built_in, client_of, offers, small_app

from middleware import load

NAMES = ("request_id", "access_log", "auth")


def said(lines, *messages):
    return [line for line in lines if line["message"] in messages]


@pytest.fixture
def app():
    return small_app(built_in(*NAMES))


async def test_a_finished_request_is_one_line_with_its_facts(app, lines):
    headers = bearer() | {"x-request-id": "mine"}

    async with client_of(app) as client:
        await client.get("/closed?token=hunter2", headers)

    (line,) = said(lines, "Request finished")
    assert line["level"].name == "INFO"
    assert 0 <= line["extra"].pop("ms") < 5000
    assert line["extra"] == {
        "request_id": "mine",
        "method": "GET",
        "path": "/closed",
        "status": 200,
        "client": "127.0.0.1",
        "user_id": "user-1",
    }


@pytest.mark.parametrize(
    ("path", "status"), [("/nowhere", 404), ("/broken", 500), ("/closed", 401)]
)
async def test_an_error_is_logged_with_its_status(app, lines, path, status):
    async with client_of(app) as client:
        await client.get(path)

    (line,) = said(lines, "Request finished")
    assert line["extra"]["status"] == status


@pytest.mark.parametrize("path", ["/api/v1/chat", "/api/v1/chat/"])
async def test_a_chat_is_logged_when_it_is_received_and_not_when_its_headers_leave(
    app, lines, path
):
    """Its end is logged by the stream, which alone knows it."""
    async with client_of(app) as client:
        response = await client.session.post(
            client.server.url(path), headers={"x-request-id": "mine"}
        )

        answered_at = datetime.now(UTC)
        await until(lambda: said(lines, "Chat request received"))
        response.close()

    (line,) = said(lines, "Chat request received", "Request finished")
    assert line["time"] <= answered_at
    assert line["extra"] == {
        "request_id": "mine",
        "method": "POST",
        "path": path,
        "client": "127.0.0.1",
    }


async def test_questions_that_come_together_are_all_logged_in_the_order_they_came(app, lines):
    async with client_of(app) as client:
        url = client.server.url("/api/v1/chat")
        asked = [client.session.post(url, headers={"x-request-id": str(n)}) for n in range(50)]
        for response in await asyncio.gather(*asked):
            response.close()
        await until(lambda: len(said(lines, "Chat request received")) == 50)

    written = said(lines, "Chat request received")
    assert {line["extra"]["request_id"] for line in written} == set(map(str, range(50)))
    assert sorted(written, key=lambda line: line["time"]) == written


async def test_a_question_is_logged_although_the_process_ends(app, lines):
    async with client_of(app) as client:
        (await client.session.post(client.server.url("/api/v1/chat"))).close()

    assert said(lines, "Chat request received")


async def test_a_question_is_logged_although_another_plugin_fails_to_close(lines):
    other = load(["other"], {}, offers(other="sample_plugins:FailsToClose"))
    with pytest.raises(ConnectionError, match="its server is down"):
        async with client_of(small_app([*built_in(*NAMES), *other])) as client:
            (await client.session.post(client.server.url("/api/v1/chat"))).close()

    assert said(lines, "Chat request received")


async def test_questions_that_never_stop_coming_are_logged_meanwhile(app, lines):
    async with client_of(app) as client:
        url = client.server.url("/api/v1/chat")

        async def ask() -> None:
            while True:
                (await client.session.post(url)).close()

        asking = asyncio.create_task(ask())
        await until(lambda: said(lines, "Chat request received"))
        asking.cancel()


async def test_a_request_is_logged_with_its_user_if_there_is_one(app, lines):
    async with client_of(app) as client:
        await client.send("POST", "/upload", bearer())
        await client.send("POST", "/upload")

    assert [line["extra"]["user_id"] for line in said(lines, "Request finished")] == [
        "user-1",
        None,
    ]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_health_probe_is_logged_at_debug_only(app, lines, method):
    async with client_of(app) as client:
        await client.send(method, "/api/v1/auth/ping")

    (line,) = said(lines, "Request finished")
    assert line["level"].name == "DEBUG"


async def test_a_client_that_leaves_is_not_logged_as_an_error(app, lines):
    async with client_of(app) as client:
        _, writer = await asyncio.open_connection("127.0.0.1", client.server.port)
        writer.write(b"GET /stalls HTTP/1.1\r\nHost: h\r\n\r\n")
        await app.ctx.reached.wait()
        writer.close()
        await writer.wait_closed()

    (line,) = said(lines, "Request finished", "Client left before the answer")
    assert line["message"] == "Client left before the answer"
    assert "status" not in line["extra"]


async def test_no_line_holds_a_token_or_a_query(app, lines):
    headers = bearer()

    async with client_of(app) as client:
        await client.get("/closed?access_token=hunter2", headers)
        await client.get("/nowhere?access_token=hunter2", headers)

    assert len(said(lines, "Request finished")) == 2
    for line in lines:
        assert "hunter2" not in repr(line)
        assert headers["authorization"].split()[1] not in repr(line)


async def test_a_long_path_is_cut(app, lines):
    async with client_of(app) as client:
        await client.get("/" + "x" * 4000)

    (line,) = said(lines, "Request finished")
    assert line["extra"]["path"] == "/" + "x" * 255


FORWARDED = {"x-real-ip": "203.0.113.7", "x-forwarded-for": "198.51.100.1, 203.0.113.8"}


@pytest.mark.parametrize(
    ("trust", "headers", "client"),
    [
        ("false", FORWARDED, "127.0.0.1"),
        ("true", FORWARDED, "203.0.113.7"),
        ("true", {"x-forwarded-for": "198.51.100.1, 203.0.113.8"}, "203.0.113.8"),
        ("true", {"x-real-ip": "2001:db8::7"}, "2001:db8::7"),
        ("true", {"x-real-ip": "[2001:db8::7]:4711"}, "2001:db8::7"),
        ("true", {"x-forwarded-for": "198.51.100.1:80, 203.0.113.8:4711"}, "203.0.113.8"),
        ("true", {"x-forwarded-for": "::ffff:203.0.113.8"}, "203.0.113.8"),
        ("true", {"x-real-ip": "no address", "x-forwarded-for": "x"}, "127.0.0.1"),
        ("true", {}, "127.0.0.1"),
    ],
)
async def test_a_proxy_is_believed_only_when_it_is_trusted(lines, trust, headers, client):
    app = small_app(built_in(*NAMES, MIDDLEWARE_ACCESS_LOG_TRUST_PROXY=trust))

    async with client_of(app) as speaker:
        await speaker.get("/open", headers)

    (line,) = said(lines, "Request finished")
    assert line["extra"]["client"] == client
