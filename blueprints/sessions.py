"""Sessions: a caller's own conversations, to read and to erase."""

from __future__ import annotations

import re
from typing import Any

from sanic import Blueprint, HTTPResponse, empty, json

from blueprints.context import ChatRequest, principal_of, services_of
from blueprints.schemas import SESSION_ID
from services.errors import Detail, NotFound, ValidationFailed
from services.storage.conversations import Session, StoredMessage
from services.storage.paging import Page

MOST = 100
USUAL = 20

sessions = Blueprint("sessions")


@sessions.get("/sessions", name="list")
async def list_sessions(request: ChatRequest) -> HTTPResponse:
    """The caller's conversations, last active first."""
    return await _sessions(request)


@sessions.head("/sessions", name="list_head")
async def list_sessions_head(request: ChatRequest) -> HTTPResponse:
    """The headers of the list."""
    return await _sessions(request)


@sessions.get("/sessions/<session_id:str>/messages", name="messages")
async def list_messages(request: ChatRequest, session_id: str) -> HTTPResponse:
    """The messages of one of the caller's conversations, newest first."""
    return await _messages(request, session_id)


@sessions.head("/sessions/<session_id:str>/messages", name="messages_head")
async def list_messages_head(request: ChatRequest, session_id: str) -> HTTPResponse:
    """The headers of the messages."""
    return await _messages(request, session_id)


@sessions.delete("/sessions/<session_id:str>", name="erase_session")
async def erase_session(request: ChatRequest, session_id: str) -> HTTPResponse:
    """Erase a conversation: what was stored and what is remembered of it."""
    _check(session_id)
    user_id = principal_of(request).user_id
    services = services_of(request)
    streamed = await services.streams.erase(user_id, session_id)
    stored = await services.archive.erase(user_id, session_id)
    if not (streamed or stored):
        raise NotFound
    return empty(204)


@sessions.delete("/memory", name="erase_memory")
async def erase_memory(request: ChatRequest) -> HTTPResponse:
    """Erase everything that is stored and remembered of the caller."""
    services, user_id = services_of(request), principal_of(request).user_id
    await services.streams.erase(user_id)
    await services.archive.erase(user_id)
    return empty(204)


async def _sessions(request: ChatRequest) -> HTTPResponse:
    user_id, limit, cursor = principal_of(request).user_id, _limit(request), _cursor(request)
    await services_of(request).archive.caught_up(user_id)
    page = await services_of(request).conversations.sessions(user_id, limit=limit, cursor=cursor)
    return _page("sessions", page, _session)


async def _messages(request: ChatRequest, session_id: str) -> HTTPResponse:
    _check(session_id)
    user_id, limit, cursor = principal_of(request).user_id, _limit(request), _cursor(request)
    await services_of(request).archive.caught_up(user_id, session_id)
    page = await services_of(request).conversations.messages(
        user_id, session_id, limit=limit, cursor=cursor
    )
    if not page.items and cursor is None:
        raise NotFound
    return _page("messages", page, _message)


def _check(session_id: str) -> None:
    if not re.fullmatch(SESSION_ID, session_id):
        raise NotFound


def _limit(request: ChatRequest) -> int:
    text = request.args.get("limit")
    if text is None:
        return USUAL
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= MOST:
        raise ValidationFailed(details=[Detail("limit", f"must be 1 to {MOST}")])
    return int(text)


def _cursor(request: ChatRequest) -> str | None:
    cursor: str | None = request.args.get("cursor")
    return cursor


def _page(name: str, page: Page[Any], shown: Any) -> HTTPResponse:
    body = {name: [shown(item) for item in page.items], "next_cursor": page.next_cursor}
    return json(body, ensure_ascii=False)  # a third of the bytes of an emoji


def _session(session: Session) -> dict[str, Any]:
    return {
        "session_id": session.id,
        "started_at": session.started_at.isoformat(),
        "active_at": session.active_at.isoformat(),
        "messages": session.messages,
    }


def _message(message: StoredMessage) -> dict[str, Any]:
    shown = {
        "id": message.id,
        "role": message.role,
        "content": message.content,
        "tokens": message.tokens,
        "said_at": message.said_at.isoformat(),
    }
    return (
        shown if message.finish_reason is None else shown | {"finish_reason": message.finish_reason}
    )
