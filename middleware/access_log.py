"""Log requests: a question when it is received, everything else when it is answered."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from time import perf_counter, time
from typing import TYPE_CHECKING, TypeAlias

from loguru import logger as log
from pydantic import BaseModel, ConfigDict, Field
from sanic.response import BaseHTTPResponse

from middleware.base import Middleware, Release, Request
from middleware.client_address import address_of, forwarded
from services.report import Report
from services.turn import Turn

if TYPE_CHECKING:
    from loguru import Record

_CHAT = ("POST", "/api/v1/chat")
_PROBE = "/api/v1/auth/ping"
_LONGEST_PATH = 256
# Questions are logged when no more have come for `_QUIET` seconds, or when the first has waited for `_PATIENCE`;
# `_AT_ONCE` of them, which take some 40 µs each, then others have their turn for `_BREATH` seconds.
_QUIET, _PATIENCE = 0.02, 0.5
_AT_ONCE, _BREATH = 20, 0.005

_Facts: TypeAlias = Mapping[str, str | float | None]


class AccessLog(Middleware):
    """One line per request, without query strings, headers or bodies.

    The end of a stream is logged by `Streams`: here only its headers are seen to leave. Reading one on is
    logged when it begins, because nothing else says that it was asked for. The line of a question is written
    a little later, with the time at which the question came, and before the line of its answer's end.
    """

    class Options(BaseModel):
        """Whom to believe."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        trust_proxy: bool = Field(
            False,
            description="Take the client's address from `X-Real-IP`, else the last of `X-Forwarded-For`.",
        )

    def __init__(self, options: Options) -> None:
        self._trust_proxy = options.trust_proxy
        self._questions = _Questions()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Leaves no line unwritten."""
        try:
            yield
        finally:  # another plug-in may have failed
            self._questions.close()

    async def on_request(self, request: Request) -> None:
        """Note the time, and that a chat begins."""
        request.ctx.received_at = perf_counter()
        if _asks(request):
            # Whose it is will be known when `auth` has run; "Chat completion finished" says it.
            request.ctx.question = self._questions.add(self._facts(request))

    async def on_turn(self, request: Request, turn: Turn) -> Release | None:
        """See to it that the line of the question comes before that of its answer."""
        question: _Question | None = getattr(request.ctx, "question", None)
        return None if question is None else question.answered

    async def on_response(self, request: Request, response: BaseHTTPResponse) -> None:
        """Log what was answered, and after how many milliseconds."""
        streams = (response.content_type or "").startswith("text/event-stream")
        if _asks(request):
            if streams:
                return
            if (question := getattr(request.ctx, "question", None)) is not None:
                question.log()
        principal = getattr(request.ctx, "principal", None)
        facts = self._facts(request) | {"user_id": principal and principal.user_id}
        gone = request.conn_info is not None and request.conn_info.lost
        if not gone:  # To one who has left, Sanic answers with a 500 that nobody gets.
            facts["status"] = response.status
        if (received_at := getattr(request.ctx, "received_at", None)) is not None:
            facts["ms"] = round((perf_counter() - received_at) * 1000, 1)
        if (stream_id := response.headers.get("x-stream-id")) is not None:
            facts["stream_id"] = stream_id
        if gone:
            phrase = "Client left before the answer"
        elif streams and request.method != "HEAD":
            phrase = "Event stream begun"
        else:
            phrase = "Request finished"
        log.log("DEBUG" if request.path == _PROBE else "INFO", phrase, **facts)

    def _facts(self, request: Request) -> dict[str, str | float | None]:
        return {
            "request_id": getattr(request.ctx, "request_id", None),
            "method": request.method,
            "path": request.path[:_LONGEST_PATH],
            "client": (self._trust_proxy and _told(request)) or request.ip or None,
        }


class _Question:
    """A question whose line is to be written, once."""

    __slots__ = ("_at", "_facts", "logged")

    def __init__(self, facts: _Facts) -> None:
        self._at = time()
        self._facts = facts
        self.logged = False

    def log(self) -> None:
        """Write the line, if nobody has."""
        if not self.logged:
            self.logged = True
            log.patch(partial(_dated, self._at)).info("Chat request received", **self._facts)

    def answered(self, report: Report | None) -> None:
        """Write it now at the latest."""
        self.log()


class _Questions:
    """Questions whose lines are to be written when no more come.

    A line that is written at once delays the first byte of its question's answer, and of all behind it: of a
    thousand questions that came together the last one waited for a thousand lines, a fifth of its time.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, _Question]] = deque()  # the oldest first
        self._timer: asyncio.TimerHandle | None = None

    def add(self, facts: _Facts) -> _Question:
        """Have the line written soon."""
        loop = asyncio.get_running_loop()
        question = _Question(facts)
        self._waiting.append((loop.time(), question))
        if self._timer is None:
            self._timer = loop.call_later(_QUIET, self._look)
        return question

    def close(self) -> None:
        """Write what is left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._log(len(self._waiting))

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        pause = _QUIET
        if self._is_time(loop.time()):
            self._log(_AT_ONCE)
            pause = _BREATH
        self._timer = loop.call_later(pause, self._look) if self._waiting else None

    def _is_time(self, now: float) -> bool:
        first, last = self._waiting[0][0], self._waiting[-1][0]
        return now >= last + _QUIET or now >= first + _PATIENCE

    def _log(self, most: int) -> None:
        while self._waiting and most > 0:
            _, question = self._waiting.popleft()
            most -= not question.logged
            question.log()


def _dated(at: float, record: Record) -> None:
    record["time"] = datetime.fromtimestamp(at).astimezone()


def _asks(request: Request) -> bool:
    return (request.method, request.path.removesuffix("/")) == _CHAT


def _told(request: Request) -> str | None:
    """The client's address as the nearest proxy saw it."""
    for given in (request.headers.get("x-real-ip", ""), forwarded(request, 1) or ""):
        if (address := address_of(given)) is not None:
            return str(address)
    return None
