"""Ports for servers that must be told theirs."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

# Below the ports that kernels give to clients (32768 on Linux, 49152 elsewhere): otherwise a
# connection of anybody could have it before the server does, or while the server is down.
_RANGE = range(20_000, 32_000)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    for port in random.sample(_RANGE, 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")
