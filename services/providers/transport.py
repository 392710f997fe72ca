"""HTTP to one provider: pooled sockets, and an overflow that never waits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from time import perf_counter
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from services.errors import Phase, ProviderUnavailable
from services.providers.endpoint import Endpoint
from services.providers.exchange import Exchange, Patience
from services.providers.failures import timed_out

_DNS_TTL = 60
_KEEP_ALIVE = 30.0
_CLOSED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


class BadProxy(Exception):
    """The environment names a proxy that can't be used; the message says which variable, and never its value."""


class Transport:
    """The connections to one provider: `async with` opens and closes them.

    Up to *max_sockets* streams at a time share a keep-alive pool. One more never waits for a
    socket: it gets a connection of its own, closed after use. Durations are seconds.

    A pooled socket that breaks before it answers, within *stale_within* seconds of being taken, counts as
    closed before: the request goes out again, at once and on a new connection, within the same attempt.

    *proxy* is a URL, see `proxy_for`. Certificates are verified, and no redirect is followed: it would
    carry the key to wherever it points.
    """

    def __init__(
        self,
        provider: str,
        *,
        max_sockets: int = 50,
        connect_timeout: float = 5.0,
        first_token_timeout: float = 20.0,
        idle_timeout: float = 30.0,
        stale_within: float = 1.0,
        proxy: str | None = None,
    ) -> None:
        self.provider = provider
        self.pool_hits = 0
        self.stale_sockets = 0
        self.connects = 0
        self.overflows = 0
        self.connect_seconds = 0.0
        self._open: set[Exchange] = set()
        self._pooled = 0
        self._max_sockets = max_sockets
        self._connect_patience = connect_timeout
        self._connect_timeout = _within(connect_timeout)
        self._patience = Patience(first_token=first_token_timeout, idle=idle_timeout)
        self._stale_within = stale_within
        self._proxy = proxy
        self._loop: asyncio.AbstractEventLoop
        self._pool: aiohttp.TCPConnector
        self._overflow: aiohttp.TCPConnector

    @property
    def open(self) -> int:
        """Answers that hold a socket right now."""
        return len(self._open)

    async def __aenter__(self) -> Self:
        """Prepare the pools; no connection is made yet."""
        self._loop = asyncio.get_running_loop()
        # Neither connector has a limit of its own: aiohttp would make streams queue for a socket.
        self._pool = aiohttp.TCPConnector(
            limit=0, ttl_dns_cache=_DNS_TTL, keepalive_timeout=_KEEP_ALIVE
        )
        self._overflow = aiohttp.TCPConnector(limit=0, ttl_dns_cache=_DNS_TTL, force_close=True)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close every socket, also those in use."""
        for exchange in tuple(self._open):
            exchange.release()
        await self._pool.close()
        await self._overflow.close()

    def endpoint(self, url: str, headers: Mapping[str, str]) -> Endpoint:
        """What `post` asks, once the transport is open. Raises `ValueError`, see `Endpoint`."""
        return Endpoint(url, headers, proxy=self._proxy, loop=self._loop)

    async def post(
        self,
        endpoint: Endpoint,
        body: bytes,
        *,
        deadline: float | None = None,
        on_connected: Callable[[float], None] | None = None,
    ) -> Exchange:
        """Send *body* and wait for the response's headers, whatever their status.

        *on_connected* is called just before *body* leaves, with the seconds it took to get a socket, and
        a second time if it has to leave again. What it raises is raised here, and nothing is sent.
        Raises `ProviderTimeout` (phase `connect`, `first_token`, or `total` at *deadline*, in the
        event loop's time) and `ProviderUnavailable`.
        Cancelling closes the socket, also while it connects. The caller closes the exchange.
        """
        limit = math.inf if deadline is None else deadline
        pooled = self._pooled < self._max_sockets
        self.overflows += not pooled
        exchange = await self._connect(endpoint, limit, pooled=pooled)
        try:
            return await _ask(exchange, endpoint, body, on_connected)
        except ProviderUnavailable as failure:
            if not self._was_stale(exchange, failure):
                raise
        # Not from the pool: the sockets beside it were closed by the same restart, or will be.
        self.stale_sockets += 1
        exchange = await self._connect(endpoint, limit, pooled=False)
        return await _ask(exchange, endpoint, body, on_connected)

    async def _connect(self, endpoint: Endpoint, deadline: float, *, pooled: bool) -> Exchange:
        self._pooled += pooled
        started = perf_counter()
        try:
            connection = await self._connection(endpoint, deadline, pooled=pooled)
        except BaseException:
            self._pooled -= pooled
            raise
        exchange = Exchange(
            self.provider,
            connection,
            patience=self._patience,
            deadline=deadline,
            took=perf_counter() - started,
            reusable=pooled,
            on_release=self._released,
        )
        if exchange.reused:
            self.pool_hits += 1
        else:
            self.connects += 1
            self.connect_seconds += exchange.connect
        self._open.add(exchange)
        return exchange

    async def _connection(self, endpoint: Endpoint, deadline: float, *, pooled: bool) -> Connection:
        connector = self._pool if pooled else self._overflow
        phase: Phase = "connect"
        timeout, left = self._connect_timeout, deadline - self._loop.time()
        if left <= 0:  # to aiohttp it would mean that there is no limit
            raise timed_out(self.provider, "total")
        if left < self._connect_patience:
            phase, timeout = "total", _within(left)
        try:
            return await connector.connect(endpoint.route, traces=[], timeout=timeout)
        except TimeoutError as exc:
            raise timed_out(self.provider, phase) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise ProviderUnavailable(
                self.provider, f"connection failed: {type(exc).__name__}", phase="connect"
            ) from exc

    def _was_stale(self, exchange: Exchange, failure: ProviderUnavailable) -> bool:
        """Whether *failure* shows that the provider had closed the socket before it was reused.

        One that breaks later had taken the request: that attempt has failed.
        """
        waited = self._loop.time() - exchange.connected_at
        broke = isinstance(failure.__cause__, _CLOSED)
        return exchange.reused and broke and waited < self._stale_within

    def _released(self, exchange: Exchange) -> None:
        if exchange in self._open:
            self._open.remove(exchange)
            self._pooled -= exchange.reusable


def proxy_for(url: str) -> str | None:
    """The proxy that `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` ask for on the way to *url*.

    Asked once: aiohttp's `trust_env` asks again for each request, in threads, and reads ~/.netrc.
    Raises `BadProxy`.
    """
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    proxy = getproxies().get(parts.scheme)
    if proxy is None:
        return None
    variable = f"{parts.scheme.upper()}_PROXY"
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    scheme = proxy.partition("://")[0]
    if scheme not in ("http", "https"):
        raise BadProxy(f"{variable}: must be an HTTP proxy, not {scheme}://")
    if not _has_host(proxy):
        raise BadProxy(f"{variable}: must be http://HOST:PORT or https://HOST:PORT")
    return proxy


async def _ask(
    exchange: Exchange,
    endpoint: Endpoint,
    body: bytes,
    on_connected: Callable[[float], None] | None,
) -> Exchange:
    try:
        if on_connected is not None:
            on_connected(exchange.connect)
        await exchange.ask(endpoint.request(body, last=not exchange.reusable))
    except BaseException:
        exchange.close()
        raise
    return exchange


def _has_host(url: str) -> bool:
    try:
        return bool(URL(url).host)
    except ValueError:
        return False


def _within(seconds: float) -> aiohttp.ClientTimeout:
    # Without the threshold aiohttp rounds what is longer up to whole seconds.
    return aiohttp.ClientTimeout(connect=seconds, ceil_threshold=math.inf)
