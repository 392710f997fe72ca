"""Let browsers on other origins call this service (Fetch standard, "CORS protocol")."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from sanic import HTTPResponse
from sanic.response import BaseHTTPResponse

from middleware.base import Middleware, Request

_ALLOW_METHODS = "GET, HEAD, POST, DELETE, OPTIONS"
# By name: `*` would not cover `authorization`.
_ALLOW_HEADERS = ", ".join(
    (
        "authorization",
        "content-type",
        "last-event-id",
        "idempotency-key",
        "x-request-id",
        "x-test-scenario",
        "cache-control",
        "x-requested-with",
    )
)
_EXPOSE_HEADERS = "x-request-id, x-stream-id, retry-after, ratelimit, ratelimit-policy"


class Cors(Middleware):
    """Answers preflights, and says on every answer which origins may read it: those of `CORS_ORIGINS`.

    It only informs browsers. A request from any origin is served, and the probe of a platform,
    which has none, is not its business.
    """

    class Options(BaseModel):
        """How browsers treat preflights."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        max_age: int = Field(
            7200, ge=0, le=86_400, description="Seconds a browser may remember a preflight."
        )

    def __init__(self, options: Options) -> None:
        self._preflight_headers = {
            "access-control-allow-methods": _ALLOW_METHODS,
            "access-control-allow-headers": _ALLOW_HEADERS,
            "access-control-max-age": str(options.max_age),
        }

    async def on_request(self, request: Request) -> HTTPResponse | None:
        """Answer a preflight, on any path: a 404 to it would hide the 404 that the page should see."""
        if _is_preflight(request):
            return HTTPResponse(status=204, headers=self._preflight_headers)
        return None

    async def on_response(self, request: Request, response: BaseHTTPResponse) -> None:
        """Name the origin that may read the answer."""
        origins = request.app.ctx.settings.plugins.cors_origins
        headers = response.headers
        headers["access-control-expose-headers"] = _EXPOSE_HEADERS
        if "*" in origins:
            headers["access-control-allow-origin"] = "*"
            return
        _vary_by_origin(response)
        origin = request.headers.get("origin")
        if origin in origins:
            headers["access-control-allow-origin"] = origin
            headers["access-control-allow-credentials"] = "true"


def _is_preflight(request: Request) -> bool:
    return (
        request.method == "OPTIONS"
        and "origin" in request.headers
        and "access-control-request-method" in request.headers
    )


def _vary_by_origin(response: BaseHTTPResponse) -> None:
    """Tell caches, also when this origin is refused: the next one may not be."""
    names = [
        name.strip()
        for line in response.headers.getall("vary", [])
        for name in line.split(",")
        if name.strip()
    ]
    if not {"*", "origin"} & {name.lower() for name in names}:
        names.append("Origin")
    response.headers["vary"] = ", ".join(names)
