"""Attach plug-ins to the app: requests go down their list, responses and events come back up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from loguru import logger as log
from sanic.response import BaseHTTPResponse, HTTPResponse

from middleware.base import App, EventHook, Lifespan, Plugin, Request


def install(app: App, plugins: Sequence[Plugin]) -> None:
    """Have *app* call the hooks of *plugins*, and keep their lifespans open while it serves.

    Sanic knows one middleware each way; the order among plug-ins is decided here and not by its
    priorities.
    """
    going_down = [(plugin.name, plugin.on_request) for plugin in plugins if plugin.on_request]
    coming_up = [
        (plugin.name, plugin.on_response) for plugin in reversed(plugins) if plugin.on_response
    ]
    lifespans = [plugin.lifespan for plugin in plugins if plugin.lifespan]

    async def go_down(request: Request) -> HTTPResponse | None:
        for name, hook in going_down:
            try:
                response = await hook(request)
            except asyncio.CancelledError as exc:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                # Of something that the hook awaited: the client is still there, and gets an answer.
                raise RuntimeError(f"{name}.on_request raised CancelledError") from exc
            if response is None:
                continue
            if not isinstance(response, BaseHTTPResponse):
                # Sanic would run all response hooks on it, and quote it in the log.
                raise TypeError(f"{name}.on_request returned {type(response).__name__}")
            return response
        return None

    async def come_up(request: Request, response: BaseHTTPResponse) -> None:
        for name, hook in coming_up:
            try:
                await hook(request, response)
            except Exception:
                # The work is done and its answer made: a header less is better than no answer, and
                # the hooks above must still run. Sanic would skip them.
                log.exception("Middleware hook failed", plugin=name, hook="on_response")

    if going_down:
        app.register_middleware(go_down, "request")
    if coming_up:
        app.register_middleware(come_up, "response")
    if lifespans:
        _Lifespans(lifespans).follow(app)


def event_hooks(plugins: Sequence[Plugin]) -> tuple[EventHook, ...]:
    """The event hooks of *plugins* in the order an event meets them: the last plug-in's first."""
    return tuple(plugin.on_event for plugin in reversed(plugins) if plugin.on_event)


class _Lifespans:
    """Enters lifespans in order, holds them while the app serves, leaves them in reverse.

    All in one task: what spans a `yield` (a `TaskGroup`, a timeout) must be left by the task that
    entered it, and Sanic runs each listener in another.
    """

    def __init__(self, lifespans: Sequence[Lifespan]) -> None:
        self._lifespans = lifespans

    def follow(self, app: App) -> None:
        """Open before *app* accepts, close after its last connection."""
        app.register_listener(self._open, "before_server_start")
        app.register_listener(self._close, "after_server_stop")

    async def _open(self, app: App) -> None:
        self._opened = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._task = asyncio.create_task(self._hold(), name="middleware lifespans")
        await asyncio.wait((self._task, self._opened), return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            await self._task  # Raises what a lifespan raised, so that the app does not start.
        self._task.add_done_callback(self._note_end)

    async def _hold(self) -> None:
        async with AsyncExitStack() as stack:
            for lifespan in self._lifespans:
                await stack.enter_async_context(lifespan())
            self._opened.set_result(None)
            await self._closing.wait()

    async def _close(self, app: App) -> None:
        self._closing.set()
        await self._task

    def _note_end(self, task: asyncio.Task[None]) -> None:
        # A failed background task of a plug-in has ended all of them; without this nobody would know
        # before the stop.
        if not self._closing.is_set() and not task.cancelled():
            log.opt(exception=task.exception()).critical("Middleware lifespan failed")
