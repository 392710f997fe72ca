"""An issuer's key server on a loopback socket, which can be told to misbehave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from minting import claims

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SigningKey:
    """A private key an issuer signs with, and how its public half is published."""

    def __init__(self, kid: str, algorithm: str, *, bits: int = 2048) -> None:
        self.kid = kid
        self.algorithm = algorithm
        if algorithm == "ES256":
            self.private: Any = ec.generate_private_key(ec.SECP256R1())
        else:
            self.private = rsa.generate_private_key(65537, bits)
        implementation = jwt.get_algorithm_by_name(algorithm)
        self.public = {
            **implementation.to_jwk(self.private.public_key(), as_dict=True),
            "kid": kid,
            "alg": algorithm,
            "use": "sig",
        }
        self.public.pop("key_ops", None)

    def sign(self, *, algorithm: str | None = None, kid: str | None = None, **changed: Any) -> str:
        """A valid token signed with this key; *changed* claims, or another *kid* in its header."""
        return jwt.encode(
            claims(**changed),
            self.private,
            algorithm=algorithm or self.algorithm,
            headers={"kid": self.kid if kid is None else kid},
        )


class KeyServer:
    """Answers every request by `answer`, and counts them."""

    def __init__(self) -> None:
        self.url = ""
        self.requests = 0
        self.answer: Answer = self._published
        self._keys: list[Any] = []
        self._asked = asyncio.Event()

    def publish(self, *keys: SigningKey | Any) -> None:
        """From now on, answer with this key set."""
        self._keys = [key.public if isinstance(key, SigningKey) else key for key in keys]
        self.answer = self._published

    def send(self, body: bytes, *, status: int = 200, **headers: str) -> None:
        """From now on, answer with these bytes."""

        async def answer(request: web.Request) -> web.Response:
            return web.Response(
                body=body,
                status=status,
                headers={name.replace("_", "-"): value for name, value in headers.items()},
            )

        self.answer = answer

    async def asked(self, times: int) -> None:
        """Wait until so many requests have come."""
        while self.requests < times:
            self._asked.clear()
            await self._asked.wait()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        self._asked.set()
        return await self.answer(request)

    async def _published(self, request: web.Request) -> web.Response:
        return web.json_response({"keys": self._keys})


@asynccontextmanager
async def serving(server: KeyServer, port: int = 0) -> AsyncIterator[KeyServer]:
    """Serve *server* on a loopback socket while the block runs."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys.json"
        yield server
    finally:
        await runner.cleanup()


def as_json(*keys: SigningKey | Any) -> bytes:
    """The key set that publishes *keys*."""
    return json.dumps({"keys": [getattr(key, "public", key) for key in keys]}).encode()
