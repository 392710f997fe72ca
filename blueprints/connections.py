"""How long a connection is kept: deadlines, the most requests, room for others, the drain."""

from __future__ import annotations

from blueprints.context import ChatApp, ChatRequest, http_of, services_of
from blueprints.crowd import Crowd, most_connections
from blueprints.deadlines import Deadlines
from settings import seconds


def install(app: ChatApp) -> None:
    """Bound the connections of *app*, and close each in time and after its last permitted request."""
    server, limits = app.ctx.settings.server, app.ctx.settings.limits
    most = server.keep_alive_max_requests
    app.ctx.crowd = crowd = Crowd(
        limits.process_connections or most_connections(), limits.address_connections
    )
    timeouts = server.request_timeout_ms, server.write_timeout_ms, server.keep_alive_timeout_ms
    deadlines = Deadlines(crowd, shortest=seconds(min(timeouts)))

    async def count(request: ChatRequest) -> None:
        if request.conn_info is None:  # what came was no request; Sanic closes after its answer
            return
        seen = getattr(request.conn_info.ctx, "requests", 0) + 1
        request.conn_info.ctx.requests = seen
        if seen >= most or services_of(request).streams.draining:
            http_of(request).keep_alive = False

    async def start(app: ChatApp) -> None:
        deadlines.start()
        metrics = app.ctx.services.metrics
        metrics.register("http_connections", "Connections open.", lambda: len(crowd))
        metrics.register(
            "http_connections_refused",
            "Connections refused because there were too many.",
            lambda: crowd.refused,
            kind="counter",
        )

    async def stop(app: ChatApp) -> None:
        deadlines.stop()

    # Before any plug-in, which may answer the request itself.
    app.register_middleware(count, "request", priority=1_000)
    app.register_listener(start, "after_server_start")
    app.register_listener(stop, "after_server_stop")
