"""A small app to try plug-ins on, and a client for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import aiohttp
import jwt
from loguru import logger as log
from multidict import CIMultiDictProxy
from sanic import HTTPResponse, Sanic, json, text
from sanic.exceptions import SanicException

from middleware import install, load
from middleware.base import App, Plugin, Request
from middleware.load import GROUP
from sanic_server import SanicServer, serve
from services.errors import ServiceError
from services.identity import Identity
from settings import Settings

SECRET = "a-secret-for-tests-of-forty-characters!!"


def bearer(**changed: Any) -> dict[str, str]:
    """The headers of a user whose token has these claims."""
    claims = {"sub": "user-1", "aud": "authenticated", "exp": int(time.time()) + 60} | changed
    return {"authorization": f"Bearer {jwt.encode(claims, SECRET, algorithm='HS256')}"}


def offers(**targets: str) -> list[EntryPoint]:
    """Plug-ins as an installed package would offer them."""
    return [EntryPoint(name, target, GROUP) for name, target in targets.items()]


def built_in(*names: str, **options: str) -> list[Plugin]:
    """Built-in plug-ins, with options by their environment variables."""
    return load(names, options)


def small_app(plugins: Sequence[Plugin], settings: Settings | None = None) -> App:
    """Routes of every kind that middleware treats differently, and errors as JSON."""
    app: App = Sanic("small", configure_logging=False)
    app.ctx.settings = settings or Settings()
    app.ctx.services = SimpleNamespace(identity=Identity(SECRET, "authenticated"))
    app.ctx.reached = asyncio.Event()
    app.ctx.may_end = asyncio.Event()

    @app.exception(Exception)
    async def problem(request: Request, exc: Exception) -> HTTPResponse:
        if isinstance(exc, ServiceError):
            wrong = {detail.field: detail.message for detail in exc.details}
            body = {"code": exc.code, "details": wrong}
            return json(body, status=exc.status, headers=exc.headers)
        status = exc.status_code if isinstance(exc, SanicException) else 500
        return json({"code": type(exc).__name__}, status=status)

    @app.get("/open", ctx_public=True)
    async def open_to_all(request: Request) -> HTTPResponse:
        log.info("A line of the handler")
        return text("open")

    @app.route("/both", methods=["GET", "HEAD"], ctx_public=True)
    async def both(request: Request) -> HTTPResponse:
        return text("both")

    @app.get("/closed")
    async def closed(request: Request) -> HTTPResponse:
        return text(request.ctx.principal.user_id)

    @app.route("/any", methods=["GET", "OPTIONS"])
    async def any_method(request: Request) -> HTTPResponse:
        return text(request.method)

    @app.get("/varies/<by>", ctx_public=True)
    async def varies(request: Request, by: str) -> HTTPResponse:
        return text("varies", headers={"vary": by})

    @app.get("/broken", ctx_public=True)
    async def broken(request: Request) -> HTTPResponse:
        raise RuntimeError("broken")

    @app.get("/scenario", ctx_public=True)
    async def scenario(request: Request) -> HTTPResponse:
        return json(request.ctx.scenario)

    @app.get("/stalls", ctx_public=True)
    async def stalls(request: Request) -> HTTPResponse:
        app.ctx.reached.set()
        await asyncio.Event().wait()
        return text("never")

    @app.get("/api/v1/auth/ping", ctx_public=True)
    async def ping(request: Request) -> HTTPResponse:
        return json({"status": "ok"})

    @app.post("/api/v1/chat", stream=True, ctx_public=True)
    async def chat(request: Request) -> None:
        response = await request.respond(content_type="text/event-stream")
        await response.send(": Connected\n\n")
        await app.ctx.may_end.wait()
        await response.eof()

    @app.post("/upload", stream=True)
    async def upload(request: Request) -> HTTPResponse:
        app.ctx.reached.set()
        return text("uploaded")

    install(app, plugins)
    return app


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: CIMultiDictProxy[str]
    body: str


@dataclass(frozen=True)
class Client:
    """Speaks to one server."""

    server: SanicServer
    session: aiohttp.ClientSession

    async def send(self, method: str, path: str, headers: Any = None) -> Answer:
        """One request without a body."""
        async with self.session.request(method, self.server.url(path), headers=headers) as response:
            return Answer(response.status, response.headers, await response.text())

    async def get(self, path: str, headers: Any = None) -> Answer:
        return await self.send("GET", path, headers)

    async def send_raw(self, request: bytes) -> str:
        """What the server says to these bytes, until it closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer.decode()


@asynccontextmanager
async def client_of(app: App) -> AsyncIterator[Client]:
    """Serve *app* and speak to it."""
    async with serve(app) as server, aiohttp.ClientSession() as session:
        yield Client(server, session)
