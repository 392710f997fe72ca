"""White space around a header's value is not part of it, and one that decides is given once."""

from __future__ import annotations

import json

import pytest
from chat_client import CHAT, ChatClient, raw_exchange

BODY = b'{"message": "hi"}'


async def ask(client: ChatClient, *lines: str) -> bytes:
    """The whole answer to a question whose head has these *lines* besides the usual ones."""
    head = [
        f"POST {CHAT} HTTP/1.1",
        "Host: x",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(BODY)}",
        *lines,
    ]
    return await raw_exchange(client.port, "\r\n".join(head).encode() + b"\r\n\r\n" + BODY)


@pytest.mark.parametrize("space", [" ", "\t", " \t "])
@pytest.mark.parametrize("last", [True, False])
async def test_white_space_behind_a_value_is_no_part_of_it(
    client: ChatClient, bearer: dict[str, str], space: str, last: bool
) -> None:
    """RFC 9110, section 5.5; a client that pads its headers once had a token that was refused."""
    lines = [
        f"Idempotency-Key: k{space}",
        f"Last-Event-ID: 0{space}",
        f"Authorization: {bearer['Authorization']}{space}",
    ]

    answer = await ask(client, *lines, *([] if last else ["Accept: */*"]))

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"event: done" in answer


@pytest.mark.parametrize("header", ["Idempotency-Key", "Last-Event-ID"])
async def test_what_decides_is_given_once(
    client: ChatClient, bearer: dict[str, str], header: str
) -> None:
    """The first of two would silently have won, and a proxy may go by the other."""
    key = [] if header == "Idempotency-Key" else ["Idempotency-Key: k"]

    answer = await ask(
        client, f"Authorization: {bearer['Authorization']}", *key, f"{header}: 0", f"{header}: 1"
    )

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["details"] == [
        {"field": header, "message": "must be given once"}
    ]
