"""The hooks of a middleware plug-in, and a plug-in as the service holds it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import sanic
from pydantic import BaseModel, ConfigDict
from sanic.response import BaseHTTPResponse, HTTPResponse

from services.events import Event
from services.report import Report
from services.turn import Turn

App: TypeAlias = sanic.Sanic[Any, Any]
Request: TypeAlias = sanic.Request[Any, Any]

RequestHook: TypeAlias = Callable[[Request], Coroutine[Any, Any, HTTPResponse | None]]
ResponseHook: TypeAlias = Callable[[Request, BaseHTTPResponse], Coroutine[Any, Any, None]]
Release: TypeAlias = Callable[[Report | None], None]
TurnHook: TypeAlias = Callable[[Request, Turn], Coroutine[Any, Any, Release | None]]
EventHook: TypeAlias = Callable[[Turn, Event], Iterable[Event]]
Lifespan: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]


class NoOptions(BaseModel):
    """A plug-in that can't be configured."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Middleware:
    """One cross-cutting concern. Override the hooks you need; those left alone cost nothing.

    A plug-in need not inherit from this: any class with some of these hooks is one. With other
    `Options` it is constructed as `Plugin(options)`, without as `Plugin()`.
    """

    Options: ClassVar[type[BaseModel]] = NoOptions

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Surrounds the life of the server: what comes before `yield` runs before it accepts."""
        yield

    async def on_request(self, request: Request) -> HTTPResponse | None:
        """Runs before the handler and before the body is read; a response returned here is the answer.

        `request.route` is None when nothing answers at this path. A `ServiceError` raised here is the
        answer too, and so is a `SanicException`; any other exception is a 500.
        """

    async def on_response(self, request: Request, response: BaseHTTPResponse) -> None:
        """Runs once per answer, errors included, when its headers are about to leave.

        `on_request` may not have run: another plug-in, or HTTP itself, may have answered first. An
        exception is logged, and the answer leaves without what this hook would have added.
        """

    async def on_turn(self, request: Request, turn: Turn) -> Release | None:
        """Runs before a new answer starts, when its question is known to be sound.

        A `ServiceError` raised here is the answer. A function returned here is called once, when the
        answer has ended however it did, with the `Report` of it; with None if it never started. It
        must not wait. A request that joins an answer there already is doesn't come here.
        """

    def on_event(self, turn: Turn, event: Event) -> Iterable[Event]:
        """The events that take the place of *event*: none, itself, another, several.

        Called on the event loop for each token of each answer: no I/O. One instance serves all turns at
        once, so what it remembers it keeps by turn. An exception ends the stream with an error.
        """
        yield event


@dataclass(frozen=True, slots=True)
class Plugin:
    """An active plug-in: its name and the hooks it has."""

    name: str
    lifespan: Lifespan | None = None
    on_request: RequestHook | None = None
    on_response: ResponseHook | None = None
    on_turn: TurnHook | None = None
    on_event: EventHook | None = None
