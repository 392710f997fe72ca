from __future__ import annotations

import pytest
from small_app import built_in, client_of, small_app

from settings import Settings

PREFLIGHT = {
    "origin": "https://app.example",
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}
ALL_HEADERS = (
    "authorization, content-type, last-event-id, idempotency-key, x-request-id,"
    " x-test-scenario, cache-control, x-requested-with"
)


def app_for(origins: str, **options: str):
    settings = Settings.from_env({"CORS_ORIGINS": origins})
    return small_app(built_in("request_id", "access_log", "cors", "auth", **options), settings)


def cors_headers(answer) -> dict[str, str]:
    return {
        name.lower(): value
        for name, value in answer.headers.items()
        if name.lower().startswith("access-control-") or name.lower() == "vary"
    }


@pytest.mark.parametrize("headers", [{}, {"origin": "https://anyone.example"}, {"origin": "null"}])
async def test_by_default_any_origin_may_read_and_none_with_credentials(headers):
    async with client_of(app_for("*")) as client:
        answer = await client.get("/open", headers)

    assert cors_headers(answer) == {
        "access-control-allow-origin": "*",
        "access-control-expose-headers": "x-request-id, x-stream-id, retry-after, ratelimit, ratelimit-policy",
    }


async def test_a_listed_origin_may_read_with_credentials():
    async with client_of(app_for("https://app.example, http://localhost:3001")) as client:
        answer = await client.get("/open", {"origin": "http://localhost:3001"})

    assert cors_headers(answer) == {
        "access-control-allow-origin": "http://localhost:3001",
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "x-request-id, x-stream-id, retry-after, ratelimit, ratelimit-policy",
        "vary": "Origin",
    }


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "",
        "*",
        "https://evil.example",
        "https://app.example.evil.example",
        "https://app.example:8443",
        "http://app.example",
    ],
)
async def test_another_origin_is_served_but_not_named(origin):
    """The caches in between must know that the next origin may get another answer."""
    headers = {} if origin is None else {"origin": origin}

    async with client_of(app_for("https://app.example")) as client:
        answer = await client.get("/open", headers)

    assert (answer.status, answer.body) == (200, "open")
    assert "access-control-allow-origin" not in answer.headers
    assert "access-control-allow-credentials" not in answer.headers
    assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    ("vary", "expected"),
    [
        ("Accept-Language", "Accept-Language, Origin"),
        ("origin", "origin"),
        ("*", "*"),
    ],
)
async def test_the_vary_of_a_handler_is_kept(vary, expected):
    async with client_of(app_for("https://app.example")) as client:
        answer = await client.get(f"/varies/{vary}")

    assert answer.headers.getall("vary") == [expected]


@pytest.mark.parametrize("path", ["/api/v1/chat", "/closed", "/api/v1/auth/ping", "/nowhere"])
async def test_a_preflight_is_answered_on_any_path_without_a_token(path):
    async with client_of(app_for("*")) as client:
        answer = await client.send("OPTIONS", path, PREFLIGHT)

    assert (answer.status, answer.body) == (204, "")
    assert cors_headers(answer) == {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "GET, HEAD, POST, DELETE, OPTIONS",
        "access-control-allow-headers": ALL_HEADERS,
        "access-control-max-age": "7200",
        "access-control-expose-headers": "x-request-id, x-stream-id, retry-after, ratelimit, ratelimit-policy",
    }


async def test_a_preflight_from_a_listed_origin_allows_credentials():
    async with client_of(app_for("https://app.example")) as client:
        answer = await client.send("OPTIONS", "/api/v1/chat", PREFLIGHT)

    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["access-control-allow-headers"] == ALL_HEADERS


async def test_a_preflight_from_another_origin_names_none():
    async with client_of(app_for("https://other.example")) as client:
        answer = await client.send("OPTIONS", "/api/v1/chat", PREFLIGHT)

    assert answer.status == 204
    assert "access-control-allow-origin" not in answer.headers


async def test_options_that_is_no_preflight_goes_to_the_route():
    async with client_of(app_for("*")) as client:
        answer = await client.send("OPTIONS", "/any")

    assert (answer.status, answer.body) == (200, "OPTIONS")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("PUT", "/open", 405),
        ("GET", "/closed", 401),
        ("GET", "/broken", 500),
        ("POST", "/api/v1/chat", 200),
    ],
)
async def test_errors_and_streams_can_be_read_by_the_page_too(method, path, status):
    app = app_for("https://app.example")
    app.ctx.may_end.set()

    async with client_of(app) as client:
        answer = await client.send(method, path, {"origin": "https://app.example"})

    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["access-control-allow-credentials"] == "true"


async def test_the_memory_of_a_preflight_is_an_option():
    app = app_for("*", MIDDLEWARE_CORS_MAX_AGE="60")

    async with client_of(app) as client:
        answer = await client.send("OPTIONS", "/open", PREFLIGHT)

    assert answer.headers["access-control-max-age"] == "60"
