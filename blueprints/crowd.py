"""How many connections a process keeps open, and which of them make way for a newcomer."""

from __future__ import annotations

import asyncio
import json
import resource
import secrets
from collections import Counter
from collections.abc import Iterator
from time import monotonic
from typing import cast

from sanic.http import Stage

from blueprints.protocol import StrictProtocol
from services.errors import Overloaded

MOST = 20_000
# When there are too many, this share of the connections that wait for nothing is closed, the longest silent
# first. That looks at all connections, so there are as many seconds between two times.
SHARE = 0.25
PAUSE = 0.25
# How long one that is refused has to read why, in seconds.
LINGER = 0.5


def most_connections() -> int:
    """How many leave as many descriptors to what is behind them, which may be a socket for each."""
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if descriptors < 0 else min(MOST, max(1, descriptors // 2))


class Crowd:
    """The open connections of a process: *most* of them, and *per_address* of one address.

    Whoever connects asks something at once and reads the answer, and those who flood mostly don't:
    where it is full, the ones that are silent, have not finished a request's head or leave an answer
    unread are closed. Where all are being answered, the newcomer is told 503.
    """

    def __init__(self, most: int, per_address: int | None = None) -> None:
        self.refused = 0
        self._most = most
        self._per_address = per_address
        self._open: dict[StrictProtocol, str] = {}
        self._addresses: Counter[str] = Counter()
        self._looked_at = -PAUSE

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, connection: object) -> bool:
        return connection in self._open

    def __iter__(self) -> Iterator[StrictProtocol]:
        return iter(self._open)

    def enter(self, connection: StrictProtocol, transport: asyncio.BaseTransport) -> bool:
        """Whether *connection* may begin; if not, *transport* is done with."""
        address = "" if self._per_address is None else _address(transport)
        if self._is_crowded_by(address) or (
            len(self._open) >= self._most and not self._make_room()
        ):
            self.refused += 1
            _Refused().take(cast(asyncio.Transport, transport))
            return False
        self._open[connection] = address
        self._addresses[address] += 1
        return True

    def leave(self, connection: StrictProtocol) -> None:
        """Forget *connection*, which is closed."""
        if (address := self._open.pop(connection, None)) is None:
            return
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]

    def _is_crowded_by(self, address: str) -> bool:
        return self._per_address is not None and self._addresses[address] >= self._per_address

    def _make_room(self) -> bool:
        """Close some of those who wait for nothing; whether there were any."""
        now = monotonic()
        if now < self._looked_at + PAUSE:
            return False
        self._looked_at = now
        silent = sorted(filter(_is_silent, self._open), key=lambda connection: connection._time)
        for connection in silent[: 1 + int(SHARE * len(silent))]:
            self.leave(connection)
            connection.abort()
        return bool(silent)


def _is_silent(connection: StrictProtocol) -> bool:
    """Whether it has asked for nothing yet, or for nothing more, or does not read what it asked for.

    A stream is not cut for a pause of its reader.
    """
    http = connection.http
    if http is None or http.stage in (Stage.IDLE, Stage.REQUEST):
        return True
    return http.stage is Stage.HANDLER and not connection._can_write.is_set()


def _address(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if peer else ""


class _Refused(asyncio.Protocol):
    """A connection that is told no. What it sends is read and dropped: closing with unread bytes would
    reset it, and the answer would be lost with it."""

    def take(self, transport: asyncio.Transport) -> None:
        """Answer, and close soon."""
        transport.set_protocol(self)
        transport.write(_refusal())
        transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER, transport.abort)


def _refusal() -> bytes:
    """A response before there is a request: written by hand, because Sanic has nothing to answer yet."""
    error = Overloaded(retry_after=1)
    request_id = f"req_{secrets.token_hex(8)}"
    problem = {"code": error.code, "message": error.message, "request_id": request_id}
    body = json.dumps({"error": problem})
    return (
        f"HTTP/1.1 {error.status} Service Unavailable\r\n"
        f"x-request-id: {request_id}\r\n"
        f"retry-after: {error.headers['retry-after']}\r\n"
        f"content-length: {len(body)}\r\n"
        "connection: close\r\n"
        "content-type: application/json\r\n"
        f"\r\n{body}"
    ).encode()
