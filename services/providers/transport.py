"""HTTP to one provider: pooled sockets, and an overflow that never waits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from time import perf_counter
from types import SimpleNamespace, TracebackType
from typing import Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from services.errors import Phase, ProviderUnavailable
from services.providers.chunk_reader import ChunkwiseResponse
from services.providers.exchange import Exchange, Patience
from services.providers.failures import timed_out

_DNS_TTL = 60
_KEEP_ALIVE = 30.0
_CLOSED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


class Transport:
    """The connections to one provider: `async with` opens and closes them.

    Up to *max_sockets* streams at a time share a keep-alive pool. One more never waits for a
    socket: it gets a connection of its own, closed after use. Durations are seconds.
    A pooled socket that breaks before it answers, *stale_within* seconds after it was taken, was closed
    already: the request goes out again, at once and on a new connection, within the same attempt. *proxy* is a URL, see `proxy_for`. Certificates are verified, and no redirect is followed: it
    would carry the key to wherever it points.
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
        self._timeout = aiohttp.ClientTimeout(connect=connect_timeout)
        self._patience = Patience(first_token=first_token_timeout, idle=idle_timeout)
        self._stale_within = stale_within
        self._proxy = proxy
        self._pool: aiohttp.ClientSession
        self._overflow: aiohttp.ClientSession

    @property
    def open(self) -> int:
        """Answers that hold a socket right now."""
        return len(self._open)

    async def __aenter__(self) -> Self:
        """Prepare the pools; no connection is made yet."""
        # Neither connector has a limit of its own: aiohttp would make streams queue for a socket.
        self._pool = self._session(
            aiohttp.TCPConnector(limit=0, ttl_dns_cache=_DNS_TTL, keepalive_timeout=_KEEP_ALIVE)
        )
        self._overflow = self._session(
            aiohttp.TCPConnector(limit=0, ttl_dns_cache=_DNS_TTL, force_close=True)
        )
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

    async def post(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        deadline: float | None = None,
        on_connected: Callable[[float], None] | None = None,
    ) -> Exchange:
        """Send *body* and wait for the response's headers, whatever their status.

        *on_connected* is called just before *body* leaves, with the seconds it took to get a socket, and
        a second time if it has to leave again. It must not raise.
        Raises `ProviderTimeout` (phase `connect`, `first_token`, or `total` at *deadline*, in the
        event loop's time) and `ProviderUnavailable`.
        Cancelling closes the socket, also while it connects. The caller closes the exchange.
        """
        pooled = self._pooled < self._max_sockets
        session = self._pool if pooled else self._overflow
        self.overflows += not pooled
        self._pooled += pooled
        opening = _Opening(math.inf if deadline is None else deadline, on_connected)
        try:
            try:
                response = await self._send(session, url, headers, body, opening)
            except ProviderUnavailable as failure:
                if not opening.was_stale(failure.__cause__, self._stale_within):
                    raise
                # Not from the pool: the sockets beside it were closed by the same restart, or will be.
                self.stale_sockets += 1
                self._pooled -= 1
                pooled = False
                opening = _Opening(opening.deadline, on_connected)
                response = await self._send(self._overflow, url, headers, body, opening)
        except BaseException:
            self._pooled -= pooled
            raise
        exchange = Exchange(
            self.provider,
            response,
            patience=self._patience,
            asked_at=opening.connected_at,
            deadline=opening.deadline,
            connect=opening.connect,
            reusable=pooled,
            on_release=self._released,
        )
        self._open.add(exchange)
        return exchange

    async def _send(
        self,
        session: aiohttp.ClientSession,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        opening: _Opening,
    ) -> ChunkwiseResponse:
        try:
            # The patience for a first token begins when the trace tells that there is a connection.
            async with asyncio.timeout_at(opening.deadline) as opening.timeout:
                response = await session.post(
                    url,
                    headers=headers,
                    data=body,
                    allow_redirects=False,
                    proxy=self._proxy,
                    trace_request_ctx=opening,
                )
        except aiohttp.ConnectionTimeoutError as exc:
            raise timed_out(self.provider, "connect") from exc
        except TimeoutError as exc:
            raise timed_out(self.provider, opening.phase) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise ProviderUnavailable(
                self.provider,
                f"connection failed: {type(exc).__name__}",
                phase="headers" if opening.connected_at else "connect",
            ) from exc
        assert isinstance(response, ChunkwiseResponse)  # noqa: S101 - as `_session` asks for
        return response

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self._on_connected)
        trace.on_connection_reuseconn.append(self._on_reused)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            trace_configs=[trace],
            response_class=ChunkwiseResponse,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"user-agent": "ai-chat-api", "accept-encoding": "identity"},
        )

    async def _on_connected(
        self,
        session: aiohttp.ClientSession,
        context: SimpleNamespace,
        params: aiohttp.TraceConnectionCreateEndParams,
    ) -> None:
        opening: _Opening = context.trace_request_ctx
        opening.connected(self._patience.first_token, reused=False)
        self.connects += 1
        self.connect_seconds += opening.connect

    async def _on_reused(
        self,
        session: aiohttp.ClientSession,
        context: SimpleNamespace,
        params: aiohttp.TraceConnectionReuseconnParams,
    ) -> None:
        opening: _Opening = context.trace_request_ctx
        opening.connected(self._patience.first_token, reused=True)
        self.pool_hits += 1

    def _released(self, exchange: Exchange) -> None:
        if exchange in self._open:
            self._open.remove(exchange)
            self._pooled -= exchange.reusable


class _Opening:
    """A request on its way to its headers; moments are the event loop's, `connect` is seconds."""

    timeout: asyncio.Timeout
    phase: Phase = "total"
    """What ran out, if the timeout strikes."""

    def __init__(
        self, deadline: float, on_connected: Callable[[float], None] | None = None
    ) -> None:
        self.deadline = deadline
        self._on_connected = on_connected
        self.connected_at = 0.0
        self.connect = 0.0
        self._reused = False
        self._started = perf_counter()

    def connected(self, patience: float, *, reused: bool) -> None:
        """Begin the wait for a first token, of *patience* seconds."""
        self._reused = reused
        self.connect = 0.0 if reused else perf_counter() - self._started
        self.connected_at = asyncio.get_running_loop().time()
        if self.connected_at + patience < self.deadline:
            self.phase = "first_token"
            self.timeout.reschedule(self.connected_at + patience)
        if self._on_connected is not None:
            self._on_connected(self.connect)

    def was_stale(self, cause: BaseException | None, within: float) -> bool:
        """Whether *cause*, coming now, shows that the provider had closed the socket before it was reused.

        One that breaks later than *within* seconds had taken the request: that attempt has failed.
        """
        waited = asyncio.get_running_loop().time() - self.connected_at
        return self._reused and isinstance(cause, _CLOSED) and waited < within


def proxy_for(url: str) -> str | None:
    """The proxy that `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` ask for on the way to *url*.

    Asked once: aiohttp's `trust_env` asks again for each request, in threads, and reads ~/.netrc.
    Raises `ValueError`, naming the variable, for a proxy that does not speak HTTP.
    """
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    proxy = getproxies().get(parts.scheme)
    if proxy is None:
        return None
    scheme, separator, _ = proxy.partition("://")
    if not separator:
        return f"http://{proxy}"
    if scheme not in ("http", "https"):
        raise ValueError(f"{parts.scheme.upper()}_PROXY must be an HTTP proxy, not {scheme}://")
    return proxy
