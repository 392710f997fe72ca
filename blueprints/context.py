"""What middleware found out about a request, as handlers read it.

Middleware sets plain attributes on `request.ctx` and imports nothing of ours; these accessors are
the other half of that contract.
"""

from __future__ import annotations

import secrets
from asyncio import Transport
from functools import partial
from typing import Any, TypeAlias, cast

from sanic import Request, Sanic
from sanic.config import Config
from sanic.http import Http

from blueprints.protocol import StrictProtocol
from services.bootstrap import Services
from services.errors import Unauthorized
from services.identity import Principal, bearer_token
from services.streaming.streams import Admit
from settings import Settings

ChatApp: TypeAlias = Sanic[Config, Any]
ChatRequest: TypeAlias = Request[ChatApp, Any]


def services_of(request: ChatRequest) -> Services:
    """The services of the app that got *request*."""
    return cast(Services, request.app.ctx.services)


def settings_of(request: ChatRequest) -> Settings:
    """The settings of the app that got *request*."""
    return cast(Settings, request.app.ctx.settings)


def http_of(request: ChatRequest) -> Http:
    """The HTTP/1 state machine of the connection, which Sanic's annotations leave open."""
    return cast(Http, request.stream)


def protocol_of(request: ChatRequest) -> StrictProtocol:
    """The connection's protocol, which Sanic annotates as a transport."""
    return cast(StrictProtocol, request.protocol)


def transport_of(request: ChatRequest) -> Transport:
    """The connection's transport."""
    return cast(Transport, request.transport)


def request_id_of(request: ChatRequest) -> str:
    """The id that `request_id` gave the request; a fresh one where that plug-in did not run."""
    if (known := getattr(request.ctx, "request_id", None)) is None:
        known = request.ctx.request_id = f"req_{secrets.token_hex(8)}"
    return cast(str, known)


def principal_of(request: ChatRequest) -> Principal:
    """Who asks. Raises `Unauthorized` if nobody said so: leaving `auth` out closes the API."""
    principal = getattr(request.ctx, "principal", None)
    if principal is None:
        raise Unauthorized
    return cast(Principal, principal)


def bearer_token_of(request: ChatRequest) -> str | None:
    """The bearer token of *request*, None if it has no `Authorization`. Raises `Unauthorized`."""
    return bearer_token(request.headers.getall("authorization", []))


def admit_of(request: ChatRequest) -> Admit:
    """Asks the plug-ins whether *request* may have a new answer."""
    return partial(request.app.ctx.admit, request)


def scenario_of(request: ChatRequest) -> str | None:
    """The failure that this request wants played, if that is allowed here."""
    return getattr(request.ctx, "scenario", None)
