"""How long a connection is kept: for so many requests, and not while the process drains."""

from __future__ import annotations

from blueprints.context import ChatApp, ChatRequest, http_of, services_of


def install(app: ChatApp) -> None:
    """Close connections of *app* after their last permitted request."""
    most = app.ctx.settings.server.keep_alive_max_requests

    async def count(request: ChatRequest) -> None:
        if request.conn_info is None:  # what came was no request; Sanic closes after its answer
            return
        seen = getattr(request.conn_info.ctx, "requests", 0) + 1
        request.conn_info.ctx.requests = seen
        if seen >= most or services_of(request).streams.draining:
            http_of(request).keep_alive = False

    # Before any plug-in, which may answer the request itself.
    app.register_middleware(count, "request", priority=1_000)
