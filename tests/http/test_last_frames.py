"""The end of an answer on its connection: `done` leaves at once, and nothing but the end follows."""

from __future__ import annotations

import asyncio
import json
import socket
import threading

from scripted_provider import says

from services.telemetry import TelemetryEvent


class Bookkeeper:
    """A telemetry sink that does something in the middle of a turn's books."""

    def __init__(self, work) -> None:
        self._work = work

    def record(self, event: TelemetryEvent) -> None:
        self._work()


def asked(port: int, bearer: dict[str, str], until: bytes) -> bytes:
    """Ask in a thread of its own, and read until *until* came."""
    body = json.dumps({"message": "hi"}).encode()
    head = f"POST /api/v1/chat HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    fields = "".join(f"\r\n{name}: {value}" for name, value in bearer.items())
    received = b""
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.sendall(f"{head}{fields}\r\n\r\n".encode() + body)
        while until not in received and (data := sock.recv(65_536)):
            received += data
    return received


async def test_done_has_left_before_the_books_of_the_turn_are_made(serving, bearer):
    """They take several times as long as a token, and the reader is not interested in them."""
    done, in_time = threading.Event(), []
    client = await serving(
        provider=says("Hello"), telemetry=Bookkeeper(lambda: in_time.append(done.wait(10)))
    )

    def ask() -> None:
        asked(client.port, bearer, until=b"event: done\n")
        done.set()

    await asyncio.to_thread(ask)

    assert in_time == [True]


async def test_no_heartbeat_follows_done(serving, bearer):
    """One that is due while the books are made would stand between `done` and the end."""

    def beat() -> None:
        for listener in tuple(client.services.heartbeat._slot_of):
            listener.beat(b": heartbeat 1\n\n")
            beaten.append(listener)

    beaten: list[object] = []
    client = await serving(provider=says("Hello"), telemetry=Bookkeeper(beat))

    received = await asyncio.to_thread(asked, client.port, bearer, until=b"\r\n0\r\n\r\n")

    assert len(beaten) == 1
    assert received.endswith(b'data: {"finish_reason":"stop"}\n\n\r\n0\r\n\r\n')
