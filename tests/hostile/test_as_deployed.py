"""The same refusals where Sanic has rewritten its classes (TouchUp), as it does outside of tests."""

from __future__ import annotations

from raw_http import answer_to, connected, request

from tests.process.process_service import started


async def test_the_deployed_service_is_as_strict_as_the_tested_one(tmp_path, bearer):
    with started(tmp_path, {"REQUEST_TIMEOUT_MS": "2000"}) as service:
        smuggled = await answer_to(
            service.port, request(bearer, b"", "Content-Length : 42") + b"GET / HTTP/1.1\r\n\r\n"
        )
        chunk = await answer_to(
            service.port, request(bearer, b"0xf\r\n", "Transfer-Encoding: chunked")
        )
        plain = await answer_to(service.port, request(bearer, version="1.0"))
        async with connected(service.port) as wire:
            wire.send(b"GET /api/v1/auth/ping HTTP/1.1\r\n")
            late = await wire.response()
        output = service.output

    assert (smuggled.status, chunk.status, late.status) == (400, 400, 408)
    assert "transfer-encoding" not in plain.headers
    assert plain.body.endswith(b'event: done\ndata: {"finish_reason":"stop"}\n\n')
    assert "Traceback" not in output
