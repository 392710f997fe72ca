"""A process of its own: serve one answer through the plug-ins of its environment, and print it.

The pieces of the answer come as JSON in the first argument, the user who asks as `ASKED_BY`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

import aiohttp
from sanic import HTTPResponse, Sanic
from sanic import json as json_response

from middleware import event_hooks, install, load
from middleware.base import App, Request
from sanic_server import serve
from services.errors import ServiceError
from services.events import Event, Finish, TextDelta
from services.identity import Principal
from services.turn import Turn
from settings import Settings


async def main(pieces: list[str]) -> None:
    settings = Settings.from_env(os.environ)
    plugins = load(settings.plugins.middleware, settings.middleware_options)
    hooks = event_hooks(plugins)
    app: App = Sanic("child", configure_logging=False)
    app.ctx.settings = settings

    @app.exception(ServiceError)
    async def refuse(request: Request, exc: ServiceError) -> HTTPResponse:
        return json_response([], status=exc.status)

    @app.get("/", ctx_public=True)
    async def answer(request: Request) -> HTTPResponse:
        turn = Turn("req_1", "user-1", "a question")
        events: list[Event] = [*map(TextDelta, pieces), Finish("stop")]
        for hook in hooks:
            events = [out for event in events for out in hook(turn, event)]
        return json_response([getattr(event, "text", "(end)") for event in events])

    if user_id := os.environ.get("ASKED_BY"):

        @app.on_request
        async def log_in(request: Request) -> None:
            request.ctx.principal = Principal(user_id, None, 0)

    install(app, plugins)
    async with (
        serve(app) as server,
        aiohttp.ClientSession() as session,
        session.get(server.url("/")) as response,
    ):
        said = {
            "status": response.status,
            "headers": dict(response.headers),
            "events": await response.json(),
        }
    print(json.dumps(said))


asyncio.run(main(json.loads(sys.argv[1])))
