"""Run a Sanic app on a loopback socket, in the loop of the test that asks for it.

    async with serve(app) as server:
        async with session.get(server.url("/ping")) as response: ...

Sanic's own runners want a process each. Here start and stop follow the order of the real one
(listeners before, accept, listeners after; before_server_stop while connections still live), and
when `stop` returns nothing is left: no listening socket, no connection, no handler, no app task.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager
from typing import Any

from patience import PATIENCE
from pytest_sanic.utils import TestServer
from sanic import Sanic
from sanic.application.state import ApplicationServerInfo, ServerStage
from sanic.router import Router
from sanic.server import HttpProtocol
from sanic.server.async_server import AsyncioServer

from blueprints.protocol import StrictProtocol
from server import listen


class SanicServer:
    """One app, served while it is between `start` and `stop`; can be started again afterwards."""

    def __init__(
        self, app: Sanic, *, host: str = "127.0.0.1", protocol: type[HttpProtocol] = StrictProtocol
    ) -> None:
        self.app = app
        self.host = host
        self.port = 0
        self._protocol = protocol
        self._connections = _Connections()
        self._server: AsyncioServer | None = None

    def url(self, path: str = "") -> str:
        """The address of *path* on this server."""
        return f"http://{self.host}:{self.port}{path}"

    async def start(self) -> None:
        """Run the start listeners and accept; what a listener raises comes out here, cleaned up."""
        # TouchUp rewrites Sanic's classes for one app's signals: a second app would break on it.
        self.app.config.TOUCHUP = self.app.config.MOTD = False
        listening = listen(self.host, 0)
        self.port = listening.getsockname()[1]
        server: AsyncioServer = await self.app.create_server(
            sock=listening,
            protocol=self._connections.track(self._protocol),
            asyncio_server_kwargs={"start_serving": False},
        )
        try:
            await server.startup()
            # As under `app.run`: without it `app.loop` and named `app.add_task` refuse to work.
            self.app.state.server_info.append(ApplicationServerInfo({}, ServerStage.SERVING))
            await server.before_start()
            await server.start_serving()
            await server.after_start()
        except BaseException:
            server.server.close()
            await self._connections.close()
            _forget(self.app)
            raise
        self._server = server

    async def stop(self) -> None:
        """Run the stop listeners, close every connection, cancel and await whatever still runs."""
        server, self._server = self._server, None
        if server is None:
            return
        try:
            await server.before_stop()
        finally:
            server.server.close()
            try:
                await self._connections.close()
                await self._end_app_tasks()
                await server.after_stop()
            finally:
                _forget(self.app)

    async def _end_app_tasks(self) -> None:
        tasks = set(self.app.tasks)
        for task in tasks:
            task.cancel()
        await _ended(tasks)


@asynccontextmanager
async def serve(
    app: Sanic, *, host: str = "127.0.0.1", protocol: type[HttpProtocol] = StrictProtocol
) -> AsyncIterator[SanicServer]:
    """Serve *app* while the block runs."""
    server = SanicServer(app, host=host, protocol=protocol)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def teach_pytest_sanic() -> None:
    """Have pytest-sanic's `TestServer`, hence `sanic_client`, start apps this way.

    It was written for a Sanic whose private start-up functions are gone. Called once, from the
    root conftest.
    """

    async def start_server(self: TestServer) -> None:
        server = SanicServer(self.app, host=self.host, protocol=self.protocol)
        await server.start()
        self.server, self.port, self.is_running, self.closed = server, server.port, True, False

    async def close(self: TestServer) -> None:
        if self.is_running:
            self.is_running, self.closed = False, True
            await self.server.stop()

    TestServer.start_server, TestServer.close = start_server, close


class _Connections:
    """Every connection a server accepted, and the task that handles each.

    Sanic forgets a connection the moment it is lost, while its handler may still be cleaning up.
    """

    def __init__(self) -> None:
        self._open: set[HttpProtocol] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._closing = False

    def track(self, protocol: type[HttpProtocol]) -> type[HttpProtocol]:
        """A *protocol* that reports its connections here."""
        connections = self
        self._closing = False

        class Tracked(protocol):  # type: ignore[valid-type, misc]  # the class is a parameter
            def connection_made(self, transport: asyncio.Transport) -> None:
                super().connection_made(transport)
                connections._made(self)

            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                connections._lost(self)

        return Tracked

    async def close(self) -> None:
        """Abort all connections; return when each socket is closed and each handler has ended."""
        self._closing = True
        # What the kernel accepted before the listener closed still becomes a connection.
        for _ in range(3):
            await asyncio.sleep(0)
        for connection in list(self._open):
            connection.abort()
        async with asyncio.timeout(PATIENCE):
            await self._none_open.wait()
        # A lost connection has cancelled its handler; once more would interrupt its cleanup.
        await _ended(self._tasks)

    def _made(self, connection: HttpProtocol) -> None:
        if connection._task is None:
            return  # refused, and another protocol's now
        self._open.add(connection)
        self._none_open.clear()
        self._tasks.add(connection._task)
        connection._task.add_done_callback(self._tasks.discard)
        if self._closing:
            connection.abort()

    def _lost(self, connection: HttpProtocol) -> None:
        self._open.discard(connection)
        if not self._open:
            self._none_open.set()


async def _ended(tasks: Set[asyncio.Task[Any]]) -> None:
    """Await cancelled *tasks*; one that will not end fails the test."""
    if not tasks:
        return
    _, stuck = await asyncio.wait(set(tasks), timeout=PATIENCE)
    if stuck:
        raise AssertionError(f"still running {PATIENCE:g} s after being cancelled: {stuck}")


def release_apps() -> None:
    """Let go of every app that was made or served here; none may still run.

    The blueprints are modules' own and remember each app they were registered with, and Sanic's
    router caches itself. An app is several megabytes, and cycles, so now and then they are collected.
    """
    apps = [*Sanic._app_registry.values(), *_served]
    Sanic._app_registry.clear()
    _served.clear()
    for app in apps:
        for blueprint in app.blueprints.values():
            blueprint.reset()
    if apps:
        Router.get.cache_clear()
        Router.find_route_by_view_name.cache_clear()
    _released[0] += len(apps)
    if _released[0] >= 20:
        _released[0] = 0
        gc.collect()


_served: list[Sanic] = []
_released = [0]  # apps, since the last collection


def _forget(app: Sanic) -> None:
    """Undo what starting did to *app*, so that it, or another of its name, can be started."""
    app.router.reset()
    app.signal_router.reset()
    app.state.is_started = False
    app.state.server_info.clear()
    app.purge_tasks()
    Sanic._app_registry.pop(app.name, None)
    _served.append(app)
