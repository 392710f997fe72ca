"""What the OpenAPI document describes is what the running service answers, status by status."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jwt
import pytest
from chat_client import CHAT, ChatClient, Reply, events, raw_exchange
from cryptography.hazmat.primitives.asymmetric import ec
from jsonschema_rs import Draft202012Validator
from scripted_provider import ScriptedProvider

from blueprints.openapi import document
from services.events import Finish, TextDelta
from services.providers.faults import SCENARIOS

SESSION = "session-20250819-143022-a1b2"
HELLO = {"message": "Hello"}
NOWHERE = "http://127.0.0.1:9/keys.json"
DOCUMENT = document()
OPERATIONS = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
}

Prepared: TypeAlias = Mapping[str, Any]
Prepare: TypeAlias = Callable[[ChatClient, AsyncExitStack], Awaitable[Prepared]]


async def nothing(client: ChatClient, stack: AsyncExitStack) -> Prepared:
    return {}


async def asked(client: ChatClient, stack: AsyncExitStack) -> Prepared:
    """A resumable answer, complete, in a conversation."""
    reply = await client.ask("Hello", resumable=True, sessionId=SESSION)
    await client.services.archive.settled()
    return {"path": {"stream_id": reply.headers["x-stream-id"], "session_id": SESSION}}


async def read(client: ChatClient, stack: AsyncExitStack) -> Prepared:
    """The same, of which the client has everything."""
    return {**await asked(client, stack), "headers": {"Last-Event-ID": "4"}}


async def repeated(client: ChatClient, stack: AsyncExitStack) -> Prepared:
    """An idempotent request whose answer the client has."""
    key = {"Idempotency-Key": "k1"}
    await client.ask(**HELLO, headers=key)
    return {"headers": {**key, "Last-Event-ID": "4"}}


async def answering(client: ChatClient, stack: AsyncExitStack) -> Prepared:
    """Somebody else's answer that does not end yet."""
    await stack.enter_async_context(client.stream("Tell me a long story"))
    return {}


async def draining(client: ChatClient, stack: AsyncExitStack) -> Prepared:
    await client.services.streams.drain(0)
    return {}


def signed_by_a_key() -> dict[str, str]:
    """A token that only a key server could verify."""
    claims = {"sub": "u", "aud": "authenticated", "exp": int(time.time()) + 60}
    key = ec.generate_private_key(ec.SECP256R1())
    token = jwt.encode(claims, key, algorithm="ES256", headers={"kid": "k"})
    return {"Authorization": f"Bearer {token}"}


@dataclass(frozen=True, slots=True)
class Case:
    """A request that gets *status* of *operation*; *code* is the error's, or names what is played."""

    operation: str
    status: int
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    data: bytes | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    prepare: Prepare = nothing
    stream_id: str = "str_unknown"
    session_id: str = SESSION

    def __str__(self) -> str:
        return f"{self.operation}-{self.status}-{self.code or self.prepare.__name__}"


def hello(**more: Any) -> bytes:
    return json.dumps(HELLO | more).encode()


NO_TOKEN = {"Authorization": "Bearer nonsense"}
AWAY = {"JWT_JWKS_URL": NOWHERE}
ERASE = ("eraseSession", "eraseMemory")
STORED = ("sessions", "messages", *ERASE)
CASES = [
    Case("ask", 200, data=hello()),
    Case("ask", 200, data=hello(resumable=True)),
    *(
        Case("ask", 200, code=scenario, data=hello(), headers={"X-Test-Scenario": scenario})
        for scenario in sorted(set(SCENARIOS) - {"slow_first_token", "long_story"})
    ),
    Case("ask", 204, data=hello(), prepare=repeated),
    Case("ask", 400, "INVALID_JSON", data=b"{"),
    Case("ask", 400, "VALIDATION_ERROR", data=hello(message="", sessionId="x")),
    Case("ask", 400, "VALIDATION_ERROR", data=hello(), headers={"X-Test-Scenario": "nonsense"}),
    Case("ask", 409, "CONFLICT", data=hello(message="Other"), prepare=repeated),
    Case("ask", 413, "PAYLOAD_TOO_LARGE", data=b"x" * 40_000),
    Case("ask", 415, "UNSUPPORTED_MEDIA_TYPE", data=b"x", headers={"Content-Type": "text/plain"}),
    Case(
        "ask",
        429,
        "RATE_LIMIT",
        data=hello(),
        variables={"LIMIT_REQUESTS_PER_MINUTE": "1"},
        prepare=asked,
    ),
    Case(
        "ask",
        429,
        "BUDGET_EXCEEDED",
        data=hello(message="Hello, how are you?"),
        variables={"LIMIT_DAILY_BUDGET_USD": "0.001156"},  # it would pay for the answer to a word
    ),
    Case(
        "ask",
        503,
        "OVERLOADED",
        data=hello(),
        variables={"LIMIT_PROCESS_STREAMS": "1"},
        prepare=answering,
    ),
    Case("ask", 503, "DRAINING", data=hello(), prepare=draining),
    Case("resume", 200, prepare=asked),
    Case("resume", 200, prepare=asked, query="?after=2"),
    Case("resume", 204, prepare=read),
    Case("resume", 400, "VALIDATION_ERROR", prepare=asked, headers={"Last-Event-ID": "x"}),
    Case("resume", 400, "VALIDATION_ERROR", prepare=asked, query="?after=99"),
    Case("resume", 404, "NOT_FOUND"),
    Case("stop", 202, prepare=asked),
    Case("stop", 404, "NOT_FOUND"),
    Case("sessions", 200, prepare=asked),
    Case("sessions", 400, "VALIDATION_ERROR", query="?limit=0"),
    Case("sessions", 400, "VALIDATION_ERROR", query="?cursor=x"),
    Case("messages", 200, prepare=asked),
    Case("messages", 200, prepare=asked, query="?limit=1"),
    Case("messages", 400, "VALIDATION_ERROR", query="?limit=ten"),
    Case("messages", 404, "NOT_FOUND"),
    Case("eraseSession", 204, prepare=asked),
    Case("eraseSession", 404, "NOT_FOUND"),
    Case("eraseMemory", 204, prepare=asked),
    *(
        Case(name, 401, "UNAUTHORIZED", headers=NO_TOKEN, data=hello() if name == "ask" else None)
        for name in ("ask", "resume", "stop", "ping", *STORED)
    ),
    *(
        Case(name, 503, "AUTH_UNAVAILABLE", headers=signed_by_a_key(), variables=AWAY)
        for name in ("ask", "resume", "stop", "ping", *STORED)
    ),
    Case("ping", 200),
    Case("ping", 503, "DRAINING", prepare=draining),
    Case("metrics", 200, prepare=asked),
    Case("metrics", 401, "UNAUTHORIZED", variables={"METRICS_TOKEN": "m" * 20}),
    Case(
        "metrics",
        404,
        "NOT_FOUND",
        variables={"APP_ENV": "production", "JWT_SECRET": "s" * 40},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_an_answer_is_as_the_document_says(serving, case: Case):
    client = await serving(dict(case.variables))
    method, path, operation = OPERATIONS[case.operation]

    async with AsyncExitStack() as stack:
        prepared = await case.prepare(client, stack)
        names = {"stream_id": case.stream_id, "session_id": case.session_id}
        reply = await client.send(
            method,
            path.format(**names | prepared.get("path", {})) + case.query,
            headers={"Content-Type": "application/json", **prepared.get("headers", {})}
            | dict(case.headers),
            data=case.data,
        )

    assert reply.status == case.status
    if case.status >= 400:
        assert reply.error["code"] == case.code
    check(operation, reply)


async def test_a_probe_without_a_token_is_answered_as_the_document_says(serving):
    client = await serving()
    client._headers.clear()

    reply = await client.send("GET", "/api/v1/auth/ping")

    assert reply.json == {"status": "ok", "authenticated": False}
    check(OPERATIONS["ping"][2], reply)


@pytest.mark.parametrize(
    ("framed", "status"),
    [("Content-Length: 20\r\n\r\n{", 408), ("Transfer-Encoding: chunked\r\n\r\nnonsense\r\n", 400)],
    ids=["that never comes", "in chunks that are none"],
)
async def test_a_body_is_answered_as_the_document_says(serving, bearer, framed, status):
    client = await serving({"REQUEST_TIMEOUT_MS": "1000"})
    request = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: {bearer['Authorization']}\r\n{framed}"
    )

    head, _, body = (await raw_exchange(client.port, request.encode())).partition(b"\r\n\r\n")

    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    fields = (line.partition(": ") for line in head.decode().split("\r\n")[1:])
    headers = {name.lower(): value for name, _, value in fields}
    check(OPERATIONS["ask"][2], Reply(status, headers, body))


@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
async def test_an_answer_that_the_provider_did_not_count_is_described(serving, reason):
    client = await serving(provider=ScriptedProvider((TextDelta("Hello"), Finish(reason))))

    reply = await client.ask("hi", resumable=True)

    assert events(reply.body)[1][1]["estimated"] is True
    check(OPERATIONS["ask"][2], reply)


async def test_a_stopped_answer_is_described(serving):
    client = await serving(provider=ScriptedProvider((TextDelta("Hello"),), None))

    async with client.stream("hi", resumable=True) as stream:
        await stream.next_event()
        stream_id = stream.response.headers["x-stream-id"]
        await client.send("DELETE", f"{CHAT}/{stream_id}")
        body = await stream.rest()
        reply = Reply(200, stream.response.headers, body)

    assert events(body)[-1] == ("done", {"finish_reason": "aborted", "events": 3})
    check(OPERATIONS["ask"][2], reply)


def test_every_status_of_the_document_was_seen():
    """Else the document promises what nobody checked; a 500 takes a bug, and has a test of its own."""
    described = {
        (name, int(status), code)
        for name, (_, _, operation) in OPERATIONS.items()
        for status, response in operation["responses"].items()
        for code in _codes(response)
    }

    checked = {
        (case.operation, case.status, case.code if case.status >= 400 else "") for case in CASES
    }

    assert {each for each in described - checked if each[1] != 500} == {
        # Above.
        ("ask", 400, "BAD_REQUEST"),
        ("ask", 408, "REQUEST_TIMEOUT"),
        # Storage that is away, which tests/services has.
        *((name, 503, "UNAVAILABLE") for name in STORED),
        *((name, 503, "STREAMS_UNAVAILABLE") for name in ("ask", "resume", "stop", *ERASE)),
    }


def check(operation: Mapping[str, Any], reply: Reply) -> None:
    """Hold *reply* against what *operation* says of its status."""
    described = operation["responses"][str(reply.status)]
    given = {name.lower(): value for name, value in reply.headers.items()}
    for name, header in described["headers"].items():
        if header["required"] or name.lower() in given:
            _fit(header["schema"], given[name.lower()])
    content = described.get("content")
    if content is None:
        assert reply.body == b""
        return
    media = content[given["content-type"]]
    match given["content-type"].partition(";")[0]:
        case "application/json":
            _fit(media["schema"], reply.json)
        case "text/event-stream":
            found = events(reply.body)
            assert [name for name, _ in found].count("done") == 1
            for name, data in found:
                _fit(media["x-events"][name], data)
        case _:
            _fit(media["schema"], reply.body.decode())


def _fit(schema: Any, value: Any) -> None:
    Draft202012Validator(
        {**schema, "components": {"schemas": EXACT}}, validate_formats=True
    ).validate(value)


def _exact(schema: Any) -> Any:
    """*schema* that takes no property besides those it names."""
    if isinstance(schema, dict):
        closed = {"additionalProperties": False} if "properties" in schema else {}
        return {key: _exact(value) for key, value in schema.items()} | closed
    return [_exact(each) for each in schema] if isinstance(schema, list) else schema


EXACT = {name: _exact(schema) for name, schema in DOCUMENT["components"]["schemas"].items()}


def _codes(response: Mapping[str, Any]) -> list[str]:
    json_content = response.get("content", {}).get("application/json", {})
    return list(json_content.get("examples", [])) or [""]
