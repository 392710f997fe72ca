"""Plug-ins of a stranger: none of them imports anything of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field
from sanic import text

diary: list[str] = []


class First:
    """Writes what happens into the diary; `Second` and `Third` likewise."""

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        diary.append(f"{type(self).__name__} opens")
        try:
            yield
        finally:
            diary.append(f"{type(self).__name__} closes")

    async def on_request(self, request: Any) -> None:
        diary.append(f"{type(self).__name__} sees the request")

    async def on_response(self, request: Any, response: Any) -> None:
        diary.append(f"{type(self).__name__} sees {response.status}")

    def on_event(self, turn: Any, event: Any) -> Iterator[Any]:
        yield f"{event} {type(self).__name__}"


class Second(First):
    pass


class Third(First):
    pass


class Doorkeeper:
    async def on_request(self, request: Any) -> Any:
        return text("Go away.", status=418)


class AnswersWithADict:
    async def on_request(self, request: Any) -> Any:
        return {"planted": "secret"}


class AwaitsWhatIsCancelled:
    async def on_request(self, request: Any) -> None:
        shared = asyncio.get_running_loop().create_future()
        shared.cancel()
        await shared


class RaisesOnRequest:
    async def on_request(self, request: Any) -> None:
        raise LookupError("on request")


class RaisesOnResponse:
    async def on_response(self, request: Any, response: Any) -> None:
        raise LookupError("on response")


class FailsToOpen:
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        raise ConnectionError("its server is down")
        yield


class FailsToClose:
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        yield
        raise ConnectionError("its server is down")


class OwnsATaskGroup:
    """Its lifespan spans what only the task that entered it may leave."""

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            worker = tasks.create_task(asyncio.Event().wait())
            yield
            worker.cancel()
        diary.append("task group left")


class LosesItsTask:
    """Its background task fails as soon as `fail` is set."""

    fail: ClassVar[asyncio.Event]

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._work())
            yield

    async def _work(self) -> None:
        await self.fail.wait()
        raise ConnectionError("lost")


class Configured:
    class Options(BaseModel):
        greeting: str = "Hello"
        limit: int = Field(10, ge=1)
        loud: bool = False
        mode: Literal["kind", "curt"] = "kind"
        words: tuple[str, ...] = ()

    def __init__(self, options: Options) -> None:
        self.options = options

    async def on_response(self, request: Any, response: Any) -> None:
        response.headers["x-greeting"] = self.options.greeting


class NeedsAKey:
    class Options(BaseModel):
        key: str

    def __init__(self, options: Options) -> None:
        self.options = options

    async def on_request(self, request: Any) -> None: ...


class Hookless:
    def on_requst(self, request: Any) -> None: ...


class PlainRequestHook:
    def on_request(self, request: Any) -> None: ...


class PlainTurnHook:
    def on_turn(self, request: Any, turn: Any) -> None: ...


class AsyncEventHook:
    async def on_event(self, turn: Any, event: Any) -> Any: ...


class AsyncGeneratorEventHook:
    async def on_event(self, turn: Any, event: Any) -> Any:
        yield event


class ShortEventHook:
    def on_event(self, event: Any) -> Any: ...


class BareLifespan:
    async def lifespan(self) -> AsyncIterator[None]:
        yield


class HookThatIsNoMethod:
    on_request = "later"


class OddOptions:
    Options = dict

    async def on_request(self, request: Any) -> None: ...


not_a_class = 7
