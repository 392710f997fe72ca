"""Log requests: a question when it is received, everything else when it is answered."""

from __future__ import annotations

from time import perf_counter

from loguru import logger as log
from pydantic import BaseModel, ConfigDict, Field
from sanic.response import BaseHTTPResponse

from middleware.base import Middleware, Request
from middleware.client_address import address_of, forwarded

_CHAT = ("POST", "/api/v1/chat")
_PROBE = "/api/v1/auth/ping"
_LONGEST_PATH = 256


class AccessLog(Middleware):
    """One line per request, without query strings, headers or bodies.

    A stream has its line from the one who ends it: here only its headers are seen to leave. Reading one on
    has a line when it begins, because nobody else says that it was asked for.
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

    async def on_request(self, request: Request) -> None:
        """Note the time, and that a chat begins."""
        request.ctx.received_at = perf_counter()
        if _asks(request):
            # Whose it is will be known when `auth` has run; "Chat completion finished" says it.
            log.info("Chat request received", **self._facts(request))

    async def on_response(self, request: Request, response: BaseHTTPResponse) -> None:
        """Log what was answered, and after how many milliseconds."""
        streams = (response.content_type or "").startswith("text/event-stream")
        if streams and _asks(request):
            return
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


def _asks(request: Request) -> bool:
    return (request.method, request.path.removesuffix("/")) == _CHAT


def _told(request: Request) -> str | None:
    """The client's address as the nearest proxy saw it."""
    for given in (request.headers.get("x-real-ip", ""), forwarded(request, 1) or ""):
        if (address := address_of(given)) is not None:
            return str(address)
    return None
