"""Metrics for Prometheus."""

from __future__ import annotations

import hmac

from sanic import Blueprint, HTTPResponse

from blueprints.context import ChatRequest, bearer_token_of, services_of, settings_of
from services.errors import NotFound, Unauthorized
from services.telemetry.metrics import CONTENT_TYPE

metrics = Blueprint("metrics", url_prefix="/metrics")


@metrics.get("/", ctx_public=True, strict_slashes=False, name="read")
async def read(request: ChatRequest) -> HTTPResponse:
    """Everything that is counted, in Prometheus' text format."""
    return _metrics(request)


@metrics.head("/", ctx_public=True, strict_slashes=False, name="read_head")
async def read_head(request: ChatRequest) -> HTTPResponse:
    """The same, without its body."""
    return _metrics(request)


def _metrics(request: ChatRequest) -> HTTPResponse:
    settings = settings_of(request)
    wanted = settings.metrics.token
    if wanted is None:
        if settings.production:
            raise NotFound
    else:
        given = bearer_token_of(request) or ""
        if not hmac.compare_digest(given.encode(), wanted.get_secret_value().encode()):
            raise Unauthorized
    return HTTPResponse(services_of(request).metrics.render(), content_type=CONTENT_TYPE)
