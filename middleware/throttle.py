"""Refuse addresses that ask too often, or whose tokens are refused too often, before anything else is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import IPv6Address
from math import ceil
from typing import Annotated

from limits import RateLimitItem, parse, parse_many
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from loguru import logger as log
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sanic.response import BaseHTTPResponse

from middleware.base import App, Middleware, Request
from middleware.client_address import address_of, forwarded
from services.errors import RateLimited
from services.redis_client import open_redis

# How long Redis has to answer, and is left alone when it didn't. Seconds.
PATIENCE = 0.25
RETRY = 5.0


def _is_rate(value: str) -> str:
    # Of several, `parse` would take the first and say nothing.
    rates = parse_many(value)
    if len(rates) != 1 or rates[0].amount < 1:
        raise ValueError("must be one rate above 0, such as 600/minute")
    return value


Rate = Annotated[str, BeforeValidator(_is_rate)]


class Throttle(Middleware):
    """Counts requests and refused tokens by address: in the process, or in Redis where that is configured.

    It stands above `auth`. Public routes without a token are not counted: a platform probes them.
    """

    class Options(BaseModel):
        """How much is too much, and whose address it is."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        requests: Rate = Field("600/minute", description="Requests of one address.")
        refused: Rate = Field("30/minute", description="Refused tokens of one address.")
        proxies: int = Field(
            0,
            ge=0,
            le=10,
            description="Proxies in front that append to `X-Forwarded-For`; what clients wrote there is ignored.",
        )

    def __init__(self, options: Options) -> None:
        self._requests = parse(options.requests)
        self._refused = parse(options.refused)
        self._proxies = options.proxies
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared: SlidingWindowCounterRateLimiter | None = None
        self._is_open = False
        self._ask_again_at = 0.0
        self._is_down = False
        self._stack = AsyncExitStack()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Closes what the first request opened."""
        async with self._stack:
            yield

    async def on_request(self, request: Request) -> None:
        """Refuse with 429, or count."""
        if not _is_counted(request):
            return
        await self._open(request.app)
        address = self._address(request)
        if not await self._allows(self._refused, "refused", address, count=False):
            raise await self._refusal(self._refused, "refused", address)
        if not await self._allows(self._requests, "requests", address, count=True):
            raise await self._refusal(self._requests, "requests", address)

    async def on_response(self, request: Request, response: BaseHTTPResponse) -> None:
        """Count a refused token."""
        if response.status == 401 and self._is_open:
            await self._allows(self._refused, "refused", self._address(request), count=True)

    async def _open(self, app: App) -> None:
        """Use Redis, if there is one; a plug-in sees the settings with its first request."""
        if self._is_open:
            return
        self._is_open = True
        if (url := app.ctx.settings.storage.redis_url) is not None:
            # A client of our own: `limits` has no way to close its.
            redis = await self._stack.enter_async_context(open_redis(url.get_secret_value()))
            self._shared = SlidingWindowCounterRateLimiter(
                RedisStorage(
                    "async+redis://",
                    wrap_exceptions=True,
                    implementation="redispy",
                    key_prefix="chat:throttle",
                    connection_pool=redis.connection_pool,  # type: ignore[arg-type] # documented so
                )
            )

    async def _allows(self, rate: RateLimitItem, what: str, address: str, *, count: bool) -> bool:
        """Whether *address* may do *what* once more; it has done it then, if that is to *count*."""
        limiter, now = self._shared, time.monotonic()
        if limiter is not None and now >= self._ask_again_at:
            try:
                async with asyncio.timeout(PATIENCE):
                    ask = limiter.hit if count else limiter.test
                    allowed = await ask(rate, what, address)
            except (StorageError, TimeoutError) as exc:
                self._ask_again_at = now + RETRY
                if not self._is_down:
                    log.warning("Shared throttle not available", error=type(exc).__name__)
                self._is_down = True
            else:
                self._is_down = False
                return allowed
        ask = self._local.hit if count else self._local.test
        return await ask(rate, what, address)

    async def _refusal(self, rate: RateLimitItem, what: str, address: str) -> RateLimited:
        """429, with the time at which the window has moved on."""
        shared = self._shared is not None and time.monotonic() >= self._ask_again_at
        limiter = self._shared if shared and self._shared is not None else self._local
        wait = float(rate.get_expiry())
        try:
            async with asyncio.timeout(PATIENCE):
                reset = (await limiter.get_window_stats(rate, what, address)).reset_time
                wait = min(wait, max(1.0, reset - time.time()))
        except (StorageError, TimeoutError):
            pass
        return RateLimited(
            "Too many requests from this address, please try again later.",
            headers={
                "ratelimit-policy": f'"address";q={rate.amount};w={rate.get_expiry()}',
                "ratelimit": f'"address";r=0;t={ceil(wait)}',
            },
            retry_after=wait,
        )

    def _address(self, request: Request) -> str:
        """Where *request* comes from; an IPv6 client has a whole /64 of addresses, which count as one."""
        told = forwarded(request, self._proxies) if self._proxies else None
        address = address_of(request.ip or "" if told is None else told)
        if address is None:
            return "unknown"
        if isinstance(address, IPv6Address):
            return f"{int(address) >> 64:x}"
        return str(address)


def _is_counted(request: Request) -> bool:
    public = request.route is not None and getattr(request.route.ctx, "public", False)
    return request.method != "OPTIONS" and (not public or "authorization" in request.headers)
