"""The OpenAPI document, true to the wire: `python -m blueprints.openapi` prints `docs/openapi.json`."""

from __future__ import annotations

import json
import sys
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Final

from blueprints import wire
from blueprints.openapi_parts import (
    LIMITS,
    Json,
    json_response,
    operation,
    parameter,
    ref,
    response,
    schemas,
    stream_response,
    stream_text,
)
from blueprints.schemas import SESSION_ID, ChatBody
from blueprints.sessions import MOST, USUAL
from services import errors
from services.events import Finish, TextDelta, Usage
from services.providers.faults import SCENARIOS
from services.telemetry.metrics import CONTENT_TYPE as METRICS_TYPE

PROJECT: Final = Path(__file__).parents[1] / "pyproject.toml"
SENT: Final = (
    wire.TokenData,
    wire.UsageData,
    wire.DoneData,
    wire.Anonymous,
    wire.Authenticated,
    wire.Stopping,
    wire.SessionPage,
    wire.MessagePage,
    wire.ProblemBody,
)
# What any route that takes a token can answer.
TOKEN_REFUSED: Final = (errors.Unauthorized, errors.KeysUnavailable)


def document() -> Json:
    """OpenAPI 3.1 of every route but the pages for people."""
    project = tomllib.loads(PROJECT.read_text("utf-8"))["project"]
    bearer = {"type": "http", "scheme": "bearer"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AI Chat API",
            "version": project["version"],
            "summary": project["description"],
            "description": _INTRODUCTION,
        },
        "servers": [{"url": "/", "description": "Where this document came from."}],
        "security": [{"bearer": []}],
        "paths": _CHAT | _CONVERSATIONS | _OPERATION,
        "components": {
            "securitySchemes": {
                "bearer": bearer | {"bearerFormat": "JWT"},
                "metrics": bearer | {"description": "`METRICS_TOKEN`, where that is set."},
            },
            "schemas": schemas([ChatBody], SENT),
        },
    }


def render() -> str:
    """The document as the text of its file."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


_INTRODUCTION: Final = """\
Answers of a language model as server-sent events.

**Streams.** The status line, the headers and a first comment leave at once. Then come `token` events, at
most one `usage`, and exactly one `done`, always last: a stream without it was cut. The `data` of an
event is one line of JSON in ASCII, of the schema `TokenData`, `UsageData` or `DoneData`. Comments (lines
that begin with a colon) carry nothing; a `: heartbeat` comes every 10 seconds. What fails after the
first byte is a `token` with a sentence for the user, then `done` with `finish_reason` `error` and a code.

**Resumable streams** number their events with `id:` lines, from 1 without gaps, and can be read on after
a lost connection: `GET /api/v1/chat/{stream_id}` with `Last-Event-ID`.

**Errors** before the first byte have one shape, `ProblemBody`. Every route can also answer 405 with
`Allow`, 400, 408, 413, 417 or 431 to what is not sound HTTP, 503 `OVERLOADED` where there are too many
connections, and 429 `RATE_LIMIT` where addresses are throttled. HEAD answers with the headers of GET or POST.
"""

_SCRIPT: Final = (
    TextDelta('I understand you said: "Hello, how are you?". '),
    TextDelta("This is a stub response for Phase 4."),
    Usage(5, 15, "gpt-4o-mini", cost_usd=Decimal("0.00000975")),
    Finish("stop"),
)
_FAILURE: Final = (
    TextDelta(errors.ProviderTimeout.sentence),
    Finish("error", code=errors.ProviderTimeout.code),
)
_NOTHING_NEW: Final = response("The caller has read `done`; an EventSource stops here.")

_LAST_EVENT_ID: Final = parameter(
    "Last-Event-ID",
    "header",
    "The `id` of the last event that arrived, as it came; the stream goes on after it.",
    pattern="^[0-9]{1,9}$",
)
_AFTER: Final = parameter(
    "after", "query", "The same, for those who can't set headers.", pattern="^[0-9]{1,9}$"
)
_IDEMPOTENCY_KEY: Final = parameter(
    "Idempotency-Key",
    "header",
    "Makes the stream resumable, and makes a repeated request read the stream of the first one.",
    pattern=r"^[\x21-\x7e]{1,255}$",
)
_TEST_SCENARIO: Final = parameter(
    "X-Test-Scenario",
    "header",
    "Plays a failure, where `ENABLE_TEST_SCENARIOS` allows it; ignored elsewhere.",
    enum=list(SCENARIOS),
)
_PAGING: Final = (
    parameter(
        "limit", "query", "Items of a page.", type="integer", minimum=1, maximum=MOST, default=USUAL
    ),
    parameter("cursor", "query", "`next_cursor` of the page before."),
)

_STREAM_REFUSED: Final = (*TOKEN_REFUSED, errors.NotFound, errors.StreamsUnavailable)

_CHAT: Final = {
    "/api/v1/chat": {
        "post": operation(
            "ask",
            "Chat",
            "Ask, and read the answer while it is written",
            {
                "200": stream_response(
                    "The answer; see *Streams*.",
                    {
                        "answer": {"summary": "An answer", "value": stream_text(_SCRIPT)},
                        "resumable": {
                            "summary": "The same, resumable",
                            "value": stream_text(_SCRIPT, numbered=True),
                        },
                        "failure": {
                            "summary": "A provider that took too long",
                            "value": stream_text(_FAILURE),
                        },
                    },
                    LIMITS,
                ),
                "204": _NOTHING_NEW,
            },
            (
                *TOKEN_REFUSED,
                errors.InvalidJson,
                errors.ValidationFailed,
                errors.BadRequest,
                errors.RequestTimedOut,
                errors.Conflict,
                errors.PayloadTooLarge,
                errors.UnsupportedMediaType,
                errors.RateLimited,
                errors.BudgetExceeded,
                errors.Overloaded,
                errors.Draining,
                errors.StreamsUnavailable,
            ),
            parameters=[_IDEMPOTENCY_KEY, _LAST_EVENT_ID, _TEST_SCENARIO],
            request_body={
                "required": True,
                "description": "At most 32 KiB, as sent. Unknown fields are ignored.",
                "content": {
                    "application/json": {
                        "schema": ref("ChatBody"),
                        "example": {"message": "Hello, how are you?"},
                    }
                },
            },
        ),
    },
    "/api/v1/chat/{stream_id}": {
        "parameters": [parameter("stream_id", "path", "From `X-Stream-Id`.")],
        "get": operation(
            "resume",
            "Chat",
            "Read the rest of a resumable stream",
            {
                "200": stream_response(
                    "The events after the last one that arrived; see *Streams*.",
                    {
                        "rest": {
                            "summary": "After `Last-Event-ID: 2`",
                            "value": "retry: 3000\n"
                            + stream_text(_SCRIPT[2:], numbered=True, after=2),
                        }
                    },
                ),
                "204": _NOTHING_NEW,
            },
            (*_STREAM_REFUSED, errors.ValidationFailed),
            parameters=[_LAST_EVENT_ID, _AFTER],
        ),
        "delete": operation(
            "stop",
            "Chat",
            "Stop an answer; stopping it again changes nothing",
            {"202": json_response("It is being stopped.", "Stopping")},
            _STREAM_REFUSED,
        ),
    },
}

_CONVERSATION: Final = parameter("session_id", "path", "The conversation.", pattern=SESSION_ID)
_STORED_REFUSED: Final = (*TOKEN_REFUSED, errors.Unavailable)

_CONVERSATIONS: Final = {
    "/api/v1/sessions": {
        "get": operation(
            "sessions",
            "Conversations",
            "The caller's conversations, last active first",
            {"200": json_response("A page of them.", "SessionPage")},
            (*_STORED_REFUSED, errors.ValidationFailed),
            parameters=_PAGING,
        ),
    },
    "/api/v1/sessions/{session_id}/messages": {
        "parameters": [_CONVERSATION],
        "get": operation(
            "messages",
            "Conversations",
            "What was said in a conversation, newest first",
            {"200": json_response("A page of it.", "MessagePage")},
            (*_STORED_REFUSED, errors.ValidationFailed, errors.NotFound),
            parameters=_PAGING,
        ),
    },
    "/api/v1/sessions/{session_id}": {
        "parameters": [_CONVERSATION],
        "delete": operation(
            "eraseSession",
            "Conversations",
            "Erase a conversation, what is remembered of it and its finished streams",
            {"204": response("Nothing of it is left. A running stream goes on, and is not kept.")},
            (*_STORED_REFUSED, errors.StreamsUnavailable, errors.NotFound),
        ),
    },
    "/api/v1/memory": {
        "delete": operation(
            "eraseMemory",
            "Conversations",
            "Erase all conversations of the caller, what is remembered of them and all finished streams",
            {"204": response("Nothing is left. Running streams go on, and are not kept.")},
            (*_STORED_REFUSED, errors.StreamsUnavailable),
        ),
    },
}

_OPERATION: Final = {
    "/api/v1/auth/ping": {
        "get": operation(
            "ping",
            "Operation",
            "Whether the service is up, and whether a token is valid",
            {"200": json_response("It is up.", "Anonymous", "Authenticated")},
            (*TOKEN_REFUSED, errors.Draining),
            security=[{}, {"bearer": []}],
        ),
    },
    "/metrics": {
        "get": operation(
            "metrics",
            "Operation",
            "Everything that is counted, for Prometheus",
            {"200": response("Metrics.", content={METRICS_TYPE: {"schema": {"type": "string"}}})},
            (errors.Unauthorized, errors.NotFound),
            security=[{}, {"metrics": []}],
        ),
    },
}


if __name__ == "__main__":
    sys.stdout.write(render())
