"""Read a request's body: authenticated first, of the right type, no larger than it may be, in time.

Streaming routes get here before any of the body was read, and Sanic then sets no limit of its own.
"""

from __future__ import annotations

from blueprints.context import ChatRequest, http_of
from services.errors import PayloadTooLarge, UnsupportedMediaType

MAX_BODY = 32 * 1024


async def read_json(request: ChatRequest) -> bytes:
    """The bytes of a JSON body, at most `MAX_BODY` of them.

    Raises `UnsupportedMediaType` and `PayloadTooLarge`, and Sanic's `BadRequest` and `RequestTimeout`
    for broken chunks and for what comes too late. What refuses an unread body also ends the
    connection, so that the rest of the body cannot be taken for a request.
    """
    types = request.headers.getall("content-type", [])
    if [type_.partition(";")[0].strip().lower() for type_ in types] != ["application/json"]:
        raise UnsupportedMediaType
    codings = ",".join(request.headers.getall("content-encoding", ["identity"])).split(",")
    if any(coding.strip().lower() != "identity" for coding in codings):
        # RFC 9110, 15.5.16: a 415 for the coding names the ones that would do.
        raise UnsupportedMediaType(
            "Content-Encoding is not supported.", headers={"accept-encoding": "identity"}
        )
    http = http_of(request)
    if (http.request_bytes_left or 0) > MAX_BODY:
        http.keep_alive = False
        raise PayloadTooLarge
    body = bytearray()
    while http.request_body:
        body += await http.read() or b""
        if len(body) > MAX_BODY:
            http.keep_alive = False
            raise PayloadTooLarge
    return bytes(body)
