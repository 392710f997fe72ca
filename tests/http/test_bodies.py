"""What the body of a question may be, and how a wrong one is refused."""

from __future__ import annotations

import json

import pytest
from chat_client import CHAT, ChatClient


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({"message": ""}, "message", "at least 1 character"),
        ({"message": " \n\t\u3000"}, "message", "must not be only white space"),
        ({"message": "a" * 4001}, "message", "at most 4000 characters"),
        ({"message": 1}, "message", "valid string"),
        ({"message": None}, "message", "valid string"),
        ({}, "message", "required"),
        ({"message": "a\0b"}, "message", "must not contain NUL"),
        ({"message": "x", "useMemory": "true"}, "useMemory", "valid boolean"),
        ({"message": "x", "useMemory": 1}, "useMemory", "valid boolean"),
        ({"message": "x", "resumable": "yes"}, "resumable", "valid boolean"),
        ({"message": "x", "sessionId": "invalid"}, "sessionId", "session-"),
        ({"message": "x", "sessionId": "session-20250819-143022-a1b2\n"}, "sessionId", "session-"),
        (
            {"message": "x", "sessionId": "session-\u0662\u0660\u0662\u06650819-143022-a1b2"},
            "sessionId",
            "session-",
        ),
        ({"message": "x", "sessionId": ""}, "sessionId", "session-"),
        ({"message": "x", "sessionId": 7}, "sessionId", "valid string"),
        ({"message": "x", "sessionId": None}, "sessionId", "or be left out"),
        ([], "body", "must be a JSON object"),
        ("text", "body", "must be a JSON object"),
        (None, "body", "must be a JSON object"),
    ],
)
async def test_a_wrong_field_is_named(client: ChatClient, body, field, said):
    reply = await client.send(
        "POST", CHAT, data=json.dumps(body), headers={"Content-Type": "application/json"}
    )

    assert reply.status == 400
    assert reply.error["code"] == "VALIDATION_ERROR"
    assert reply.error["request_id"] == reply.headers["x-request-id"]
    [detail] = reply.error["details"]
    assert detail["field"] == field
    assert said in detail["message"]


async def test_every_wrong_field_is_named_at_once(client: ChatClient):
    body = {"message": "", "useMemory": 1, "sessionId": "x", "resumable": None}

    reply = await client.send("POST", CHAT, json=body)

    assert [detail["field"] for detail in reply.error["details"]] == [
        "message",
        "useMemory",
        "sessionId",
        "resumable",
    ]


async def test_a_lone_surrogate_is_refused(client: ChatClient):
    reply = await client.send(
        "POST", CHAT, data=b'{"message":"\\ud800"}', headers={"Content-Type": "application/json"}
    )

    assert reply.status == 400
    assert reply.error["code"] == "VALIDATION_ERROR"


async def test_what_was_sent_is_not_repeated_in_an_error(client: ChatClient):
    reply = await client.send("POST", CHAT, json={"message": {"planted": "s3cret-text"}})

    assert reply.status == 400
    assert b"s3cret-text" not in reply.body


async def test_unknown_fields_are_ignored_and_4000_characters_are_fine(client: ChatClient):
    reply = await client.ask("ä" * 4000, surprise=[1, 2])

    assert reply.status == 200


@pytest.mark.parametrize(("ascii_only", "status"), [(False, 200), (True, 413)])
async def test_32_kib_are_counted_as_they_are_sent(client: ChatClient, ascii_only, status):
    """As `docs/wire-protocol.md` warns: escapes make of 16 KB of emoji 48."""
    body = json.dumps({"message": "\N{GRINNING FACE}" * 4000}, ensure_ascii=ascii_only)

    reply = await client.send(
        "POST", CHAT, data=body.encode(), headers={"Content-Type": "application/json"}
    )

    assert reply.status == status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'message': 'x'}",
        b'{"message": "x"} trailing',
        b'{"message": NaN}',
        b'\xff\xfe{"message":"x"}',
        '{"message":"x"}'.encode("utf-16"),
        b'{"message": "\xff"}',
        b"[" * 20_000,
        b'{"message": ' + b"9" * 5_000 + b"}",
    ],
    ids=lambda body: repr(body[:16]),
)
async def test_what_is_no_json_is_said_to_be_none(client: ChatClient, body):
    reply = await client.send("POST", CHAT, data=body, headers={"Content-Type": "application/json"})

    assert reply.status == 400
    assert reply.error["code"] == "INVALID_JSON"


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""]
)
async def test_a_body_that_is_not_json_by_its_type_is_415(client: ChatClient, media_type):
    reply = await client.send(
        "POST", CHAT, data=b'{"message":"x"}', headers={"Content-Type": media_type}
    )

    assert reply.status == 415
    assert reply.error["code"] == "UNSUPPORTED_MEDIA_TYPE"


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "Application/JSON"])
async def test_json_may_be_spelt_in_other_ways(client: ChatClient, media_type):
    reply = await client.send(
        "POST", CHAT, data=b'{"message":"x"}', headers={"Content-Type": media_type}
    )

    assert reply.status == 200


async def test_a_chunked_body_that_is_too_large_is_413(client: ChatClient):
    async def body():
        for _ in range(20):
            yield b"x" * 4096

    reply = await client.send(
        "POST", CHAT, data=body(), headers={"Content-Type": "application/json"}
    )

    assert reply.status == 413
    assert reply.error["code"] == "PAYLOAD_TOO_LARGE"


async def test_a_chunked_body_is_read(client: ChatClient):
    async def body():
        for piece in (b'{"mess', b'age":', b'"hi"}'):
            yield piece

    reply = await client.send(
        "POST", CHAT, data=body(), headers={"Content-Type": "application/json"}
    )

    assert reply.status == 200
