"""What is measured, and the bytes of a request to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Literal

from settings import Settings
from settings.development import development_token

Kind = Literal["floor", "service", "naive", "ping"]
USERS = 2_000
FEW = 50  # users whose tokens are soon known, as those of clients that ask again and again


@dataclass(frozen=True, slots=True)
class Target:
    """A server that answers at *port*; `floor` is the upstream itself."""

    kind: Kind
    port: int

    @property
    def streams(self) -> bool:
        """Whether its answers are event streams."""
        return self.kind != "ping"

    @property
    def token(self) -> bytes:
        """What every token has in it once."""
        return b'"content":" ' if self.kind == "floor" else b"event: token"

    @property
    def ping(self) -> bytes:
        """The request of a health check."""
        return b"GET /api/v1/auth/ping HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


def script(*, rate: float = 0, tokens: int = 1, hold: str = "no", number: int | str = 0) -> str:
    """The message that makes the upstream behave; see `bench.upstream`."""
    return f"bench id={number} rate={rate:g} tokens={tokens} hold={hold}"


def request(target: Target, message: str, *, user: int) -> bytes:
    """A chat request to *target*, from one of `USERS` users."""
    if target.kind == "floor":
        path = "/v1/chat/completions"
        body = json.dumps({"messages": [{"role": "user", "content": message}], "stream": True})
    else:
        path = "/api/v1/chat"
        body = json.dumps({"message": message})
    return (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {_token(user)}\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()


def mint_tokens() -> None:
    """Sign every user's token now, so that no measurement waits for one."""
    for user in range(USERS):
        _token(user)


@cache
def _token(user: int) -> str:
    return development_token(Settings(), user_id=f"bench-{user}")
