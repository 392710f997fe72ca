"""A burst: many connects at once, from a client so cheap that it does not measure itself.

An event loop with a task per connection takes 0.2 ms for each, and a thousandth client that has to
wait for the other 999 of its own process says little about the server. Here it is 0.06 ms.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Burst:
    """Streams that were opened together: each one's seconds from its connect to its first byte."""

    first_byte: list[float]
    cpu: float  # seconds that the client itself took
    sockets: list[socket.socket]


def burst(port: int, requests: Sequence[bytes]) -> Burst:
    """Connect once for each of *requests*, all together, and read until everyone has a first byte.

    Blocks. Raises `RuntimeError` if an answer is no 200, or none comes.
    """
    asking: dict[int, tuple[socket.socket, bytes]] = {}
    began: dict[int, float] = {}
    first_byte: list[float] = []
    used = time.process_time()
    with select.epoll() as poll:
        for request in requests:
            sock = socket.socket()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number = sock.fileno()
            asking[number] = sock, request
            began[number] = time.perf_counter()
            sock.connect_ex(("127.0.0.1", port))
            poll.register(number, select.EPOLLOUT)
        while len(first_byte) < len(requests):
            ready = poll.poll(_PATIENCE)
            if not ready:
                raise RuntimeError(f"only {len(first_byte)} of {len(requests)} were answered")
            for number, what in ready:
                sock, request = asking[number]
                if what & select.EPOLLIN:
                    first_byte.append(time.perf_counter() - began[number])
                    head = sock.recv(4096)
                    if not head.startswith(b"HTTP/1.1 200 "):
                        raise RuntimeError(f"not a stream: {head[:80]!r}")
                    poll.unregister(number)
                else:
                    sock.send(request)
                    poll.modify(number, select.EPOLLIN)
    sockets = [sock for sock, _ in asking.values()]
    return Burst(first_byte, time.process_time() - used, sockets)
