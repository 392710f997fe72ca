"""Ask for a bearer token on every route that is not marked public."""

from __future__ import annotations

from middleware.base import Middleware, Request
from services.errors import Unauthorized
from services.identity import bearer_token


class Auth(Middleware):
    """Sets `request.ctx.principal`, or refuses with 401 before the body is read.

    A route is public if it was registered with `ctx_public=True`.
    """

    async def on_request(self, request: Request) -> None:
        """Verify the token."""
        if request.route is None or getattr(request.route.ctx, "public", False):
            return  # Where there is no route the answer is 404 or 405, with a token or without.
        if request.method == "OPTIONS":
            return  # A preflight carries no credentials (Fetch standard, 4.8).
        token = bearer_token(request.headers.getall("authorization", []))
        if token is None:
            raise Unauthorized
        request.ctx.principal = await request.app.ctx.services.identity.verify(token)
