"""The chat: ask, read on, stop."""

from __future__ import annotations

import hashlib
import re

from sanic import Blueprint, HTTPResponse, empty, json

from blueprints.body import read_json
from blueprints.context import (
    ChatRequest,
    principal_of,
    request_id_of,
    scenario_of,
    services_of,
)
from blueprints.event_stream import CONTENT_TYPE, HEADERS, follow
from blueprints.schemas import ChatBody, parse
from services import sse
from services.chat_stream import ChatStream
from services.errors import Detail, NotFound, ValidationFailed
from services.streams import Claim
from services.turn import Turn

# The one place where a `retry:` line is right: an EventSource repeats a GET, never a POST.
RESUMED = b"retry: 3000\n" + sse.CONNECTED

chat = Blueprint("chat", url_prefix="/chat")


@chat.post("/", stream=True, strict_slashes=False, name="ask")
async def ask(request: ChatRequest) -> HTTPResponse | None:
    """Answer one message with an event stream."""
    principal = principal_of(request)
    key = _idempotency_key(request)
    body = await read_json(request)
    asked = parse(ChatBody, body)
    turn = Turn(
        request_id=request_id_of(request),
        user_id=principal.user_id,
        message=asked.message,
        session_id=asked.sessionId or None,
        use_memory=asked.useMemory,
        resumable=asked.resumable or key is not None,
        scenario=scenario_of(request),
    )
    claim = Claim(key, hashlib.sha256(body).digest()) if key else None
    after = _last_event_id(request) if claim else 0
    stream = await services_of(request).streams.open(turn, claim)
    return await _read_on(request, stream, after, prelude=sse.CONNECTED)


@chat.head("/", strict_slashes=False, name="ask_head")
async def ask_head(request: ChatRequest) -> HTTPResponse:
    """The headers of an answer, without one."""
    principal_of(request)
    return HTTPResponse(headers=HEADERS, content_type=CONTENT_TYPE)


@chat.get("/<stream_id:str>", name="resume")
async def resume(request: ChatRequest, stream_id: str) -> HTTPResponse | None:
    """The rest of a resumable stream."""
    stream = _find(request, stream_id)
    return await _read_on(request, stream, _last_event_id(request), prelude=RESUMED)


@chat.head("/<stream_id:str>", name="resume_head")
async def resume_head(request: ChatRequest, stream_id: str) -> HTTPResponse:
    """The headers of a resumable stream."""
    stream = _find(request, stream_id)
    return HTTPResponse(headers={**HEADERS, "x-stream-id": stream.id}, content_type=CONTENT_TYPE)


@chat.delete("/<stream_id:str>", name="stop")
async def stop(request: ChatRequest, stream_id: str) -> HTTPResponse:
    """Stop an answer; stopping it again, or after its end, changes nothing."""
    stream = _find(request, stream_id)
    stream.stop("stopped")
    return json({"stream_id": stream.id, "status": "stopping"}, status=202)


async def _read_on(
    request: ChatRequest, stream: ChatStream, after: int, *, prelude: bytes
) -> HTTPResponse | None:
    if after > len(stream.log):
        raise ValidationFailed(details=[Detail("Last-Event-ID", "is beyond the end of the stream")])
    if stream.log.ended and after == len(stream.log):
        return empty(204)  # the reader has everything; 204 stops an EventSource
    await follow(request, stream, after=after, prelude=prelude)
    return None


def _find(request: ChatRequest, stream_id: str) -> ChatStream:
    stream = services_of(request).streams.find(stream_id, principal_of(request).user_id)
    if stream is None:
        raise NotFound
    return stream


def _idempotency_key(request: ChatRequest) -> str | None:
    key: str | None = request.headers.getone("idempotency-key", None)
    if key is not None and not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise ValidationFailed(
            details=[Detail("Idempotency-Key", "must be 1 to 255 visible ASCII characters")]
        )
    return key


def _last_event_id(request: ChatRequest) -> int:
    """How many events the client has: `Last-Event-ID`, else `?after=`, else none."""
    header = request.headers.getone("last-event-id", None)
    field, text = ("Last-Event-ID", header) if header is not None else ("after", _after(request))
    if text is None:
        return 0
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValidationFailed(details=[Detail(field, "must be the number of an event")])
    return int(text)


def _after(request: ChatRequest) -> str | None:
    values = request.get_query_args(keep_blank_values=True)
    return next((value for name, value in values if name == "after"), None)
