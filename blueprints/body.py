"""Read a request's body: authenticated first, of the right type, no larger than it may be, in time.

Streaming routes get here before any of the body was read, and Sanic then sets no limit of its own.
"""

from __future__ import annotations

import asyncio

from sanic.exceptions import BadRequest as SanicBadRequest
from sanic.http import Http

from blueprints.context import ChatRequest, http_of, settings_of
from services.errors import BadRequest, PayloadTooLarge, RequestTimedOut, UnsupportedMediaType
from settings import seconds

MAX_BODY = 32 * 1024


async def read_json(request: ChatRequest) -> bytes:
    """The bytes of a JSON body, at most `MAX_BODY` of them.

    Raises `UnsupportedMediaType`, `PayloadTooLarge`, `RequestTimedOut`, and `BadRequest` for broken
    chunks. What refuses an unread body also ends the connection, so that the rest of the body
    cannot be taken for a request.
    """
    media_type = request.headers.getone("content-type", "").partition(";")[0]
    if media_type.strip().lower() != "application/json":
        raise UnsupportedMediaType
    if request.headers.getone("content-encoding", "identity").strip().lower() != "identity":
        # RFC 9110, 15.5.16: a 415 for the coding names the ones that would do.
        raise UnsupportedMediaType(
            "Content-Encoding is not supported.", headers={"accept-encoding": "identity"}
        )
    if (http_of(request).request_bytes_left or 0) > MAX_BODY:
        http_of(request).keep_alive = False
        raise PayloadTooLarge
    if _has_come(http_of(request)):
        return await _read(request)
    try:
        async with asyncio.timeout(seconds(settings_of(request).server.request_timeout_ms)):
            return await _read(request)
    except TimeoutError as exc:
        http_of(request).keep_alive = False
        http_of(request).request_body = None  # or Sanic would wait for the rest of it
        raise RequestTimedOut from exc
    except SanicBadRequest as exc:
        http_of(request).keep_alive = False
        raise BadRequest from exc


def _has_come(http: Http) -> bool:
    """Whether a body of known length is here already, and nobody has to be told to send it."""
    left = http.request_bytes_left or 0
    return 0 < left <= len(http.recv_buffer) and not http.expecting_continue


async def _read(request: ChatRequest) -> bytes:
    body = bytearray()
    while http_of(request).request_body:
        body += await http_of(request).read() or b""
        if len(body) > MAX_BODY:
            http_of(request).keep_alive = False
            raise PayloadTooLarge
    return bytes(body)
