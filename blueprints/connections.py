"""How long a connection is kept: for so many requests, and not while the process drains."""

from __future__ import annotations

from blueprints.context import ChatApp, ChatRequest, services_of


def install(app: ChatApp) -> None:
    """Close connections of *app* after their last permitted request."""
    most = app.ctx.settings.server.keep_alive_max_requests

    # Before any plug-in, which may answer the request itself.
    @app.on_request(priority=1_000)  # type: ignore[untyped-decorator]
    async def _count(request: ChatRequest) -> None:
        if request.conn_info is None:  # what came was no request; Sanic closes after its answer
            return
        seen = getattr(request.conn_info.ctx, "requests", 0) + 1
        request.conn_info.ctx.requests = seen
        if seen >= most or services_of(request).streams.draining:
            request.stream.keep_alive = False
