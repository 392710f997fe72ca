"""Hold every user to the limits of `LIMIT_*`, and tell them what is left."""

from __future__ import annotations

from sanic.response import BaseHTTPResponse

from middleware.base import Middleware, Release, Request
from services.turn import Turn


class Limits(Middleware):
    """Takes a place within the limits for every new answer, and gives it back when that has ended."""

    async def on_turn(self, request: Request, turn: Turn) -> Release:
        """Admit *turn*, or refuse with 429 or 503."""
        place = await request.app.ctx.services.admission.admit(turn)
        request.ctx.ratelimit = place.headers
        release: Release = place.release
        return release

    async def on_response(self, request: Request, response: BaseHTTPResponse) -> None:
        """Say what is left; a refusal says so itself."""
        if left := getattr(request.ctx, "ratelimit", None):
            response.headers.update(left)
