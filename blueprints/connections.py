"""How long a connection is kept: for so many requests, while there is room, not while the process drains."""

from __future__ import annotations

from blueprints.context import ChatApp, ChatRequest, http_of, services_of
from blueprints.crowd import Crowd, most_connections


def install(app: ChatApp) -> None:
    """Bound the connections of *app*, and close each after its last permitted request."""
    most = app.ctx.settings.server.keep_alive_max_requests
    limits = app.ctx.settings.limits
    app.ctx.crowd = crowd = Crowd(
        limits.process_connections or most_connections(), limits.address_connections
    )

    async def count(request: ChatRequest) -> None:
        if request.conn_info is None:  # what came was no request; Sanic closes after its answer
            return
        seen = getattr(request.conn_info.ctx, "requests", 0) + 1
        request.conn_info.ctx.requests = seen
        if seen >= most or services_of(request).streams.draining:
            http_of(request).keep_alive = False

    async def publish(app: ChatApp) -> None:
        metrics = app.ctx.services.metrics
        metrics.register("http_connections", "Connections open.", lambda: len(crowd))
        metrics.register(
            "http_connections_refused",
            "Connections refused because there were too many.",
            lambda: crowd.refused,
            kind="counter",
        )

    # Before any plug-in, which may answer the request itself.
    app.register_middleware(count, "request", priority=1_000)
    app.register_listener(publish, "after_server_start")
