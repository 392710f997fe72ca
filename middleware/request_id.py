"""Give every request an id: on its answer, and on the log lines written while it is handled."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from loguru import logger as log
from sanic.response import BaseHTTPResponse

from middleware.base import Middleware, Request

if TYPE_CHECKING:
    from loguru import Record

# It goes into headers, rows and log lines as it is.
_CLIENTS_OWN = re.compile(r"[A-Za-z0-9._-]{1,128}")

# Not `log.contextualize`: that is a block, and a request's begins and ends in different functions.
_current: ContextVar[str | None] = ContextVar("request_id", default=None)


class RequestId(Middleware):
    """Sets `request.ctx.request_id`: the client's own `X-Request-Id` if it is sound, else a new one."""

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Has log lines carry the id. It stays so: several apps may share the one logger."""
        log.configure(patcher=_stamp)
        yield

    async def on_request(self, request: Request) -> None:
        """Choose the id. Tasks that the handler starts inherit it for their log lines."""
        request.ctx.request_id = _choose(request)
        _current.set(request.ctx.request_id)

    async def on_response(self, request: Request, response: BaseHTTPResponse) -> None:
        """Send it back."""
        if not hasattr(request.ctx, "request_id"):
            # Sanic runs no request hooks for what it answers itself while a request times out.
            await self.on_request(request)
        response.headers["x-request-id"] = request.ctx.request_id


def _choose(request: Request) -> str:
    # `request.id` would turn 0012 into 12, and fold the case of a UUID.
    lines: list[str] = request.headers.getall("x-request-id", [])
    match lines:
        case [given] if _CLIENTS_OWN.fullmatch(given := given.strip(" \t")):
            return given
        case _:
            return f"req_{secrets.token_hex(8)}"


def _stamp(record: Record) -> None:
    request_id = _current.get()
    if request_id is not None:
        record["extra"].setdefault("request_id", request_id)
