"""Whatever bytes come: an answer or a close, never a hang, and the next client is served."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_http import answer_to, connected, request

from settings import Settings
from settings.development import development_token

FRAGMENTS = [
    b"GET ", b"POST ", b"/api/v1/chat", b"/api/v1/auth/ping", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n",
    b"Host: x\r\n", b"Content-Length: 5\r\n", b"Content-Length: 99\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n",
    b"Upgrade: websocket\r\n", b"\r\n", b"\n", b"\0", b"5\r\nhello\r\n", b"0\r\n\r\n", b"{}",
    b'{"message":"hi"}', b"Content-Type: application/json\r\n",
]  # fmt: skip
BRIEF = {"REQUEST_TIMEOUT_MS": "100", "KEEP_ALIVE_TIMEOUT_MS": "100"}
RARE = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
BEARER = {"Authorization": f"Bearer {development_token(Settings(), ttl=86_400)}"}


def test_any_bytes_get_an_answer_or_a_close(loop, start):
    node = loop.run_until_complete(start(BRIEF))

    async def attack(data: bytes) -> bytes:
        async with connected(node.port) as wire:
            wire.send(data)
            received = await wire.closed()
        await node.serves()
        return received

    @RARE
    @given(st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=40), max_size=14))
    def any_bytes(parts: list[bytes]) -> None:
        received = loop.run_until_complete(attack(b"".join(parts)))

        assert b" 500 " not in received.partition(b"\r\n")[0]
        assert received == b"" or received.startswith(b"HTTP/1.1 ")

    any_bytes()


def test_any_body_that_is_no_request_is_said_to_be_none(loop, node):
    @RARE
    @given(st.binary(max_size=200))
    def any_body(body: bytes) -> None:
        response = loop.run_until_complete(answer_to(node.port, request(BEARER, body)))

        assert response.status == 400
        assert response.code in ("INVALID_JSON", "VALIDATION_ERROR")

    any_body()
