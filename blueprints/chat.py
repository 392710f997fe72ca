"""The chat: ask, read on, stop."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from sanic import Blueprint, HTTPResponse, empty, json

from blueprints.body import read_json
from blueprints.context import (
    ChatRequest,
    admit_of,
    principal_of,
    request_id_of,
    scenario_of,
    services_of,
)
from blueprints.event_stream import announce, follow
from blueprints.schemas import ChatBody, parse
from services.errors import Detail, NotFound, ValidationFailed
from services.streaming import sse
from services.streaming.log import Readable
from services.streaming.replay import says_the_end
from services.streaming.store import Claim
from services.turn import Turn

# The one place where a `retry:` line is right: an EventSource repeats a GET, never a POST.
RESUMED = b"retry: 3000\n" + sse.CONNECTED

chat = Blueprint("chat", url_prefix="/chat")


@dataclass(frozen=True, slots=True)
class _Place:
    """How many events a client has, and whether the last of them says that the answer is lost."""

    after: int
    at_the_end: bool = False


_START = _Place(0)


@chat.post("/", stream=True, strict_slashes=False, name="ask")
async def ask(request: ChatRequest) -> HTTPResponse | None:
    """Answer one message with an event stream."""
    turn, claim = await _asked(request)
    place = _last_event_id(request) if claim else _START
    if place.at_the_end:
        return empty(204)
    stream = await services_of(request).streams.open(
        turn, admit_of(request), claim, after=place.after
    )
    return await _read_on(request, stream, place.after, prelude=sse.CONNECTED)


@chat.head("/", strict_slashes=False, name="ask_head")
async def ask_head(request: ChatRequest) -> None:
    """The headers of an answer, without one."""
    principal_of(request)
    await announce(request)


@chat.get("/<stream_id:str>", name="resume")
async def resume(request: ChatRequest, stream_id: str) -> HTTPResponse | None:
    """The rest of a resumable stream."""
    place = _last_event_id(request)
    # Who has read the end of a lost stream waits for nothing more, wherever it may still be going on.
    stream = await _find(request, stream_id, 0 if place.at_the_end else place.after)
    if place.at_the_end:
        return empty(204)
    return await _read_on(request, stream, place.after, prelude=RESUMED)


@chat.head("/<stream_id:str>", name="resume_head")
async def resume_head(request: ChatRequest, stream_id: str) -> None:
    """The headers of a resumable stream."""
    await announce(request, await _find(request, stream_id, 0))


@chat.delete("/<stream_id:str>", name="stop")
async def stop(request: ChatRequest, stream_id: str) -> HTTPResponse:
    """Stop an answer; stopping it again, or after its end, changes nothing."""
    principal = principal_of(request)
    if not await services_of(request).streams.stop(stream_id, principal.user_id):
        raise NotFound
    return json({"stream_id": stream_id, "status": "stopping"}, status=202)


async def _asked(request: ChatRequest) -> tuple[Turn, Claim | None]:
    """What *request* asks for. Its body is let go of here: a stream may stay open for minutes."""
    principal = principal_of(request)
    key = _idempotency_key(request)
    body = await read_json(request)
    asked = parse(ChatBody, body)
    turn = Turn(
        request_id=request_id_of(request),
        user_id=principal.user_id,
        message=asked.message,
        session_id=asked.sessionId,
        use_memory=asked.useMemory,
        resumable=asked.resumable or key is not None,
        scenario=scenario_of(request),
    )
    claim = Claim(principal.user_id, key, hashlib.sha256(body).digest()) if key else None
    return turn, claim


async def _read_on(
    request: ChatRequest, stream: Readable, after: int, *, prelude: bytes
) -> HTTPResponse | None:
    if after > len(stream.log):
        raise ValidationFailed(details=[Detail("Last-Event-ID", "is beyond the end of the stream")])
    if stream.log.ended and after == len(stream.log):
        return empty(204)  # the reader has everything; 204 stops an EventSource
    await follow(request, stream, after=after, prelude=prelude)
    return None


async def _find(request: ChatRequest, stream_id: str, after: int) -> Readable:
    user_id = principal_of(request).user_id
    stream = await services_of(request).streams.find(stream_id, user_id, after=after)
    if stream is None:
        raise NotFound
    return stream


def _idempotency_key(request: ChatRequest) -> str | None:
    key = _only(request, "Idempotency-Key")
    if key is not None and not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise ValidationFailed(
            details=[Detail("Idempotency-Key", "must be 1 to 255 visible ASCII characters")]
        )
    return key


def _last_event_id(request: ChatRequest) -> _Place:
    """Where the client is: `Last-Event-ID`, else `?after=`, else at the start."""
    header = _only(request, "Last-Event-ID")
    field, text = ("Last-Event-ID", header) if header is not None else ("after", _after(request))
    if text is None:
        return _START
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValidationFailed(details=[Detail(field, "must be the number of an event")])
    return _Place(int(text), says_the_end(text))


def _only(request: ChatRequest, header: str) -> str | None:
    lines: list[str] = request.headers.getall(header, [])
    if len(lines) > 1:
        # Whoever is on the way, and logs or counts, may take another than we.
        raise ValidationFailed(details=[Detail(header, "must be given once")])
    return lines[0] if lines else None


def _after(request: ChatRequest) -> str | None:
    values = request.get_query_args(keep_blank_values=True)
    return next((value for name, value in values if name == "after"), None)
