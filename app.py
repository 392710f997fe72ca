"""The service as one Sanic app; `python app.py` serves it."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from loguru import logger
from sanic import Blueprint, Sanic
from sanic.config import Config
from sanic_ext import Extend
from sanic_ext.extensions.openapi.extension import OpenAPIExtension

import middleware
import server
import workers
from blueprints import connections
from blueprints.auth import auth
from blueprints.body import MAX_BODY
from blueprints.chat import chat
from blueprints.context import ChatApp
from blueprints.metrics import metrics
from blueprints.problems import ProblemHandler
from blueprints.sessions import sessions
from services.bootstrap import open_services
from services.providers.transport import BadProxy
from services.redis_client import BadRedisUrl
from services.storage.database import BadDatabaseUrl, DatabaseUnavailable
from services.storage.migrations import MigrationFailed
from settings import BadSetting, Settings, load_settings, seconds
from settings.development import curl_line
from settings.logging import configure_logging

ROOT = Path(__file__).parent
# What stops a start in one line. The first name the variable themselves; the others are DATABASE_URL's.
NAMED_FAILURES = (BadSetting, BadDatabaseUrl, BadRedisUrl, BadProxy)
STARTUP_FAILURES = (*NAMED_FAILURES, DatabaseUnavailable, MigrationFailed)


def create_app(settings: Settings, **parts: Any) -> ChatApp:
    """The service, not yet running. Raises `BadSetting`.

    *parts* take the place of services that *settings* would make; see `open_services`.
    """
    plugins = middleware.load(settings.plugins.middleware, settings.middleware_options)
    app: ChatApp = Sanic(
        "ai-chat-api",
        config=_config(settings),
        error_handler=ProblemHandler(),
        configure_logging=False,
    )
    app.ctx.settings = settings
    app.blueprint(Blueprint.group(chat, auth, sessions, url_prefix="/api/v1"))
    app.blueprint(metrics)
    _serve_docs(app)
    _read_every_body(app)
    connections.install(app)
    middleware.install(app, plugins)
    app.ctx.admit = middleware.admission(plugins)
    stack = AsyncExitStack()

    @app.before_server_start
    async def _open(app: ChatApp) -> None:
        hooks = middleware.event_hooks(plugins)
        app.ctx.services = await stack.enter_async_context(
            open_services(settings, hooks=hooks, **parts)
        )

    @app.before_server_stop
    async def _drain(app: ChatApp) -> None:
        # Here, because later Sanic closes the services before it cancels the handlers that use them.
        await app.ctx.services.streams.drain(seconds(settings.server.drain_timeout_ms))

    @app.after_server_stop
    async def _close(app: ChatApp) -> None:
        await stack.aclose()

    return app


def serve(settings: Settings, **parts: Any) -> int:
    """Serve until SIGTERM, SIGINT or SIGHUP; *parts* as in `create_app`. The exit status.

    Raises `STARTUP_FAILURES`.
    """
    server.hold_standard_descriptors()
    listening = server.listen(settings.server.host, settings.server.port)
    if settings.server.web_concurrency > 1:
        return workers.run(
            settings.server.web_concurrency, listening, partial(_work, settings, parts)
        )
    _serve_one(settings, parts, listening, _say_ready)
    return 0


def _work(
    settings: Settings,
    parts: dict[str, Any],
    number: int,
    listening: socket.socket,
    serving: Callable[[], None],
) -> None:
    """One worker of several; the first one speaks to whoever started them."""

    def ready(app: ChatApp, port: int) -> None:
        serving()
        if number == 1:
            _say_ready(app, port)

    try:
        _serve_one(_with_own_log_file(settings, number), parts, listening, ready)
    except STARTUP_FAILURES as exc:
        sys.exit(_one_line(exc))


def _serve_one(
    settings: Settings,
    parts: dict[str, Any],
    listening: socket.socket,
    on_ready: Callable[[ChatApp, int], None],
) -> None:
    # Its start-up lines say less than ours.
    logging.getLogger("sanic.root").setLevel(logging.WARNING)
    app = create_app(settings, **parts)
    with configure_logging(settings.logging, settings.production, secrets=settings.secrets()):
        for name, meant in settings.near_misses.items():
            logger.bind(variable=name, meant=meant).warning("Unknown setting")
        if "limits" not in settings.plugins.middleware:
            logger.warning("MIDDLEWARE does not list limits: there are none")
        if settings.production and not settings.chat.providers and settings.providers == ("stub",):
            logger.warning("No provider has a key: the stub answers")
        server.run(app, listening, on_ready=partial(on_ready, app))


def _with_own_log_file(settings: Settings, number: int) -> Settings:
    """*settings* for worker *number*: processes that rotate one file would lose lines."""
    if settings.logging.file is None or number == 1:
        return settings
    file = Path(settings.logging.file)
    own = str(file.with_name(f"{file.stem}.{number}{file.suffix}"))
    return settings.model_copy(
        update={"logging": settings.logging.model_copy(update={"file": own})}
    )


def _say_ready(app: ChatApp, port: int) -> None:
    settings: Settings = app.ctx.settings
    parts = app.ctx.services.parts
    logger.bind(host=settings.server.host, port=port, **parts).info("Ready")
    if not settings.production:
        _print(f"\nTry it:\n\n{curl_line(settings, port=port)}\n")


def _print(text: str) -> None:
    """Print *text* if anybody reads; it is no reason to die that nobody does."""
    # Not by `print`: what it can't write is tried again as the process ends, which then fails.
    if sys.stdout is not None:
        with suppress(OSError):
            os.write(sys.stdout.fileno(), f"{text}\n".encode())


def _config(settings: Settings) -> Config:
    config = Config(env_prefix=None)  # every setting is ours
    config.update(
        {
            "KEEP_ALIVE_TIMEOUT": seconds(settings.server.keep_alive_timeout_ms),
            "REQUEST_TIMEOUT": seconds(settings.server.request_timeout_ms),
            "RESPONSE_TIMEOUT": seconds(settings.server.write_timeout_ms),
            "REQUEST_MAX_SIZE": MAX_BODY,
            "ACCESS_LOG": False,
            "MOTD": False,
            "OAS_CUSTOM_FILE": ROOT / "docs" / "openapi.json",
            "OAS_UI_SWAGGER": False,  # its redirect page fetches from the network in the event loop
            "OAS_UI_REDOC_HTML_TITLE": "AI Chat API",
        }
    )
    return config


def _serve_docs(app: ChatApp) -> None:
    """`/docs` and `/docs/openapi.json` by sanic-ext, of which nothing else is wanted."""
    Extend(app, built_in_extensions=False, extensions=[OpenAPIExtension])
    for route in tuple(app.router.routes):
        if route.name.startswith(f"{app.name}.openapi."):
            route.ctx.public = True
            name = f"{route.name.removeprefix(f'{app.name}.')}_head"
            app.add_route(route.handler, route.uri, methods=["HEAD"], name=name, ctx_public=True)


def _read_every_body(app: ChatApp) -> None:
    """Have a body that came with a GET read before it is answered: Sanic logs what is left after as an error."""
    for route in app.router.routes:
        route.extra.ignore_body = False


def _one_line(failure: Exception) -> str:
    # A driver may have given its own words a hint, below them.
    told = " ".join(str(failure).split())
    return told if isinstance(failure, NAMED_FAILURES) else f"DATABASE_URL: {told}"


if __name__ == "__main__":
    try:
        sys.exit(serve(load_settings(os.environ, ROOT / ".env")))
    except STARTUP_FAILURES as exc:
        sys.exit(_one_line(exc))
