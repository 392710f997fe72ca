"""Whose request it was, in the log of the whole service with its usual middleware."""

from __future__ import annotations

from typing import Any

import pytest
from chat_client import CHAT, ChatClient

SESSION = "session-20250819-143022-a1b2"


async def test_a_chat_is_logged_when_it_comes_and_with_its_user_when_it_ends(
    client: ChatClient, lines: list[dict[str, Any]]
) -> None:
    """Nobody knows whose it is when it comes: the token has not been looked at."""
    await client.ask("hi", headers={"x-request-id": "mine"}, sessionId=SESSION)

    received, finished = [line for line in lines if line.get("request_id") == "mine"]
    assert received["message"] == "Chat request received"
    assert "user_id" not in received
    assert finished["message"] == "Chat completion finished"
    assert (finished["user_id"], finished["session_id"]) == ("test-user-id", SESSION)


@pytest.mark.parametrize(
    ("authorization", "status", "user_id"),
    [("Bearer nonsense", 401, None), (None, 400, "test-user-id")],
    ids=["by its token", "by its body"],
)
async def test_a_chat_that_is_refused_is_logged_with_its_user_if_there_is_one(
    client: ChatClient,
    lines: list[dict[str, Any]],
    authorization: str | None,
    status: int,
    user_id: str | None,
) -> None:
    headers = {
        "x-request-id": "mine",
        **({"Authorization": authorization} if authorization else {}),
    }

    await client.ask("", headers=headers)

    *_, received, finished = [line for line in lines if line.get("request_id") == "mine"]
    assert received["message"] == "Chat request received"
    assert finished["message"] == "Request finished"
    assert (finished["request_id"], finished["status"], finished["user_id"]) == (
        "mine",
        status,
        user_id,
    )


@pytest.mark.parametrize(
    ("method", "phrase"), [("GET", "Event stream begun"), ("HEAD", "Request finished")]
)
async def test_reading_a_stream_on_is_logged_with_its_id(
    client: ChatClient, lines: list[dict[str, Any]], method: str, phrase: str
) -> None:
    """Nothing once said that anybody had reconnected, so one that failed could not be traced."""
    asked = await client.ask("hi", resumable=True)
    path = f"{CHAT}/{asked.headers['x-stream-id']}"

    await client.send(method, path, headers={"x-request-id": "mine"})

    (line,) = [line for line in lines if line.get("request_id") == "mine"]
    assert 0 <= line.pop("ms") < 5000
    assert line == {
        "message": phrase,
        "request_id": "mine",
        "method": method,
        "path": path,
        "client": "127.0.0.1",
        "user_id": "test-user-id",
        "status": 200,
        "stream_id": asked.headers["x-stream-id"],
    }


async def test_a_question_that_joins_a_stream_is_logged_once(
    client: ChatClient, lines: list[dict[str, Any]]
) -> None:
    await client.ask("hi", headers={"idempotency-key": "k"})

    await client.ask("hi", headers={"idempotency-key": "k", "x-request-id": "mine"})

    (line,) = [line for line in lines if line.get("request_id") == "mine"]
    assert line["message"] == "Chat request received"
