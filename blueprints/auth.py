"""Ping: the platform's health probe and the client's token probe in one."""

from __future__ import annotations

from datetime import UTC, datetime

from sanic import Blueprint, HTTPResponse, json

from blueprints.context import ChatRequest, bearer_token_of, services_of
from services.errors import Draining

auth = Blueprint("auth", url_prefix="/auth")


@auth.get("/ping", ctx_public=True, name="ping")
async def ping(request: ChatRequest) -> HTTPResponse:
    """Say that the process serves, and whose token this is."""
    return await _probe(request)


@auth.head("/ping", ctx_public=True, name="ping_head")
async def ping_head(request: ChatRequest) -> HTTPResponse:
    """The same, without its body."""
    return await _probe(request)


async def _probe(request: ChatRequest) -> HTTPResponse:
    # Touches nothing but memory: a health check must not fail because a database is slow.
    services = services_of(request)
    if services.streams.draining:
        raise Draining(retry_after=1)
    token = bearer_token_of(request)
    if token is None:
        return json({"status": "ok", "authenticated": False})
    principal = await services.identity.verify(token)
    known = {"email": principal.email} if principal.email else {}
    return json(
        {
            "status": "ok",
            "authenticated": True,
            "user_id": principal.user_id,
            **known,
            "expires_at": datetime.fromtimestamp(principal.expires_at, UTC).isoformat(),
        }
    )
