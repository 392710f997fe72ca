"""What nobody may read in the logs is planted everywhere, and then looked for in all output."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from dialects import chunk
from process_service import started
from replies import drops, hangs, refuses, resets
from upstream import Upstream, openai, sends

from services.providers.faults import SCENARIOS
from settings import Settings
from settings.development import development_token

MESSAGE = "planted-message-quokka"
ANSWER = "planted-answer-axolotl"
API_KEY = "planted-key-narwhal-0123456789"
JWT_SECRET = "planted-secret-pangolin-0123456789abcdef"
METRICS_TOKEN = "planted-metrics-okapi-0123"
FORGED = "eyJhbGciOiJIUzI1NiJ9.planted-forged-dugong.c2ln"
IDEMPOTENCY = "planted-idempotency-tarsier"
SESSION = "session-20250819-143022-a1b2"
CHAT = "/api/v1/chat"


@pytest.fixture
def token() -> str:
    settings = Settings.from_env({"JWT_SECRET": JWT_SECRET})
    return development_token(settings, user_id="somebody", email="planted@example.com", ttl=600)


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
async def test_no_output_holds_what_was_written_or_what_opens_doors(
    loop: Any, tmp_path: Path, token: str, level: str
):
    async with Upstream() as upstream:
        variables = {
            "LOG_LEVEL": level,
            "JWT_SECRET": JWT_SECRET,
            "METRICS_TOKEN": METRICS_TOKEN,
            "OPENAI_API_KEY": API_KEY,
            "OPENAI_BASE_URL": upstream.url,
            "OPENAI_RETRY_BASE_MS": "1",
            "OPENAI_MAX_RETRIES": "1",
            "OPENAI_FIRST_TOKEN_TIMEOUT_MS": "2000",
            "DRAIN_TIMEOUT_MS": "100",
        }
        with started(tmp_path, variables) as service:
            async with aiohttp.ClientSession(
                service.url("/"), headers={"Authorization": f"Bearer {token}"}
            ) as session:
                await every_scenario(session, upstream)
                await every_failure_of_the_provider(session, upstream)
                await every_refusal(session)
                await the_rest(session, upstream)
                await leave_in_mid_answer(session, upstream)
                async with leaving_open(session, upstream):
                    service.process.send_signal(signal.SIGTERM)
                    status = await asyncio.to_thread(service.wait)
            written = service.output + (tmp_path / "api.log").read_text()

    assert status == 0
    # It was all there to be told.
    assert written.count("Chat completion finished") > 20
    assert "SSE stream error" in written
    assert "Token refused" in written
    secrets = (MESSAGE, ANSWER, API_KEY, JWT_SECRET, METRICS_TOKEN, FORGED, IDEMPOTENCY, token)
    assert [secret for secret in secrets if secret in written] == []
    assert [part for part in token.split(".")[1:] if part in written] == []
    assert "Traceback" not in written


async def ask(session: aiohttp.ClientSession, **options: Any) -> tuple[int, bytes]:
    fields = {"message": MESSAGE, **options.pop("fields", {})}
    async with session.post(CHAT, json=fields, **options) as response:
        return response.status, await response.read()


async def every_scenario(session: aiohttp.ClientSession, upstream: Upstream) -> None:
    upstream.plays(openai(ANSWER))
    for scenario in set(SCENARIOS) - {"long_story", "slow_first_token"}:
        status, body = await ask(session, headers={"X-Test-Scenario": scenario})
        assert status == 200
        assert b"event: done" in body


async def every_failure_of_the_provider(session: aiohttp.ClientSession, upstream: Upstream) -> None:
    telling = {"type": "invalid", "code": "bad", "message": f"{API_KEY} may not ask {MESSAGE}"}
    broken = b'data: {"choices": "' + ANSWER.encode() + b"\n\n"
    error = b"data: " + json.dumps({"error": telling}).encode() + b"\n\n"
    for script in (
        *(refuses(status, error=telling) for status in (400, 401, 404, 429, 500, 503)),
        refuses(429, error=telling | {"code": "insufficient_quota"}),
        sends([broken]),
        sends([error]),
        sends([chunk(ANSWER), error]),
        sends([chunk(ANSWER)]),
        resets(chunk(ANSWER)),
        drops(chunk(ANSWER)),
        drops(headers=False),
        hangs(),
        openai(ANSWER, reason="content_filter"),
    ):
        upstream.plays(script)
        status, body = await ask(session)
        assert status == 200
        assert b"event: done" in body


async def every_refusal(session: aiohttp.ClientSession) -> None:
    as_json = {"Content-Type": "application/json"}
    for data, headers, expected in (
        (f'{{"message": "{MESSAGE}"', as_json, 400),
        (json.dumps({"message": [MESSAGE]}), as_json, 400),
        (json.dumps({"message": MESSAGE, "sessionId": MESSAGE}), as_json, 400),
        (json.dumps({"message": MESSAGE * 300}), as_json, 400),
        (json.dumps({"message": MESSAGE * 3000}), as_json, 413),
        (MESSAGE, {"Content-Type": "text/plain"}, 415),
        (json.dumps({"message": MESSAGE}), as_json | {"X-Test-Scenario": MESSAGE}, 400),
        (json.dumps({"message": MESSAGE}), as_json | {"Idempotency-Key": f"{MESSAGE} x"}, 400),
        (json.dumps({"message": MESSAGE}), as_json | {"Authorization": f"Bearer {FORGED}"}, 401),
        (json.dumps({"message": MESSAGE}), as_json | {"Authorization": FORGED}, 401),
        (json.dumps({"message": MESSAGE}), as_json | {"Authorization": f"Basic {API_KEY}"}, 401),
    ):
        async with session.post(CHAT, data=data, headers=headers) as response:
            assert response.status == expected
    for path in (f"{CHAT}/str_x?after={MESSAGE}", f"/api/v1/sessions?cursor={MESSAGE}", "/nothing"):
        async with session.get(path) as response:
            assert response.status in (400, 404)
    async with session.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}x"}) as no:
        assert no.status == 401


async def the_rest(session: aiohttp.ClientSession, upstream: Upstream) -> None:
    upstream.plays(openai(ANSWER))
    for fields in ({"sessionId": SESSION}, {"sessionId": SESSION}, {"useMemory": True}):
        status, _ = await ask(session, fields=fields)
        assert status == 200
    for _ in range(2):
        status, body = await ask(session, headers={"Idempotency-Key": IDEMPOTENCY})
        assert status == 200
        assert ANSWER.encode() in body
    status, _ = await ask(
        session, fields={"useMemory": True}, headers={"Idempotency-Key": IDEMPOTENCY}
    )
    assert status == 409
    for path in ("/api/v1/auth/ping", "/api/v1/sessions", f"/api/v1/sessions/{SESSION}/messages"):
        async with session.get(path) as response:
            assert response.status == 200
    async with session.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}) as yes:
        assert yes.status == 200
        assert MESSAGE not in await yes.text()
    async with session.delete("/api/v1/memory") as response:
        assert response.status == 204


async def leave_in_mid_answer(session: aiohttp.ClientSession, upstream: Upstream) -> None:
    async with leaving_open(session, upstream):
        pass
    await upstream.abandoned()


def leaving_open(session: aiohttp.ClientSession, upstream: Upstream) -> Any:
    upstream.plays(hangs(chunk(ANSWER)))
    return session.post(CHAT, json={"message": MESSAGE})
