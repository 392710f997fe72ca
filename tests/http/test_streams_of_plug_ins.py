"""What a plug-in streams is framed as its head says: otherwise the next answer begins in the wrong place."""

import pytest

from sanic_server import SanicServer
from tests.hostile.raw_http import PING, connected


@pytest.mark.parametrize(
    ("method", "status", "headers", "body"),
    [
        ("GET", 200, {"content-length": "10"}, b"0123456789"),
        ("GET", 200, {}, b"0123456789"),
        ("HEAD", 200, {}, b""),
        ("GET", 204, {}, b""),
        ("GET", 304, {}, b""),
    ],
)
async def test_a_streamed_response_has_one_framing(make_app, method, status, headers, body):
    """A length and chunks at once are two meanings, and nothing may follow the head of a HEAD or a 204."""
    app = make_app()

    @app.route("/parts", methods=["GET", "HEAD"], ctx_public=True)
    async def parts(request):
        response = await request.respond(status=status, headers=headers)
        await response.send(b"01234")
        if body or method == "HEAD":
            await response.send(b"56789")
            await response.eof()

    server = SanicServer(app)
    await server.start()
    try:
        async with connected(server.port) as wire:
            wire.send(f"{method} /parts HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = (await wire.reader.readuntil(b"\r\n\r\n")).lower()
            answer = await _body(wire, head) if body else b""
            wire.send(PING)
            following = await wire.response()
    finally:
        await server.stop()

    assert answer == body
    assert following.status == 200
    assert not (b"content-length" in head and b"chunked" in head)


async def _body(wire, head):
    if b"content-length" in head:
        return await wire.reader.readexactly(10)
    return b"".join([await _chunk(wire) for _ in range(3)])


async def _chunk(wire):
    size = int(await wire.reader.readuntil(b"\r\n"), 16)
    return (await wire.reader.readexactly(size + 2))[:-2]
