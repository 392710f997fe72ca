"""One response being read, with a deadline on every silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from services.errors import Phase, ProviderError, ProviderUnavailable
from services.providers.chunk_reader import ChunkwiseResponse
from services.providers.failures import timed_out

_DRAIN = 2.0
_ERROR_BODY = 65_536


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds a provider may stay silent: before its first token, and between two of them."""

    first_token: float
    idle: float


class Exchange:
    """A request that was answered: its status, its headers, and its body to come.

    `connect` is the seconds it took to get a socket, 0.0 if one was reused; `reusable` tells whether
    the socket can go back to a pool.
    """

    def __init__(
        self,
        provider: str,
        response: ChunkwiseResponse,
        *,
        patience: Patience,
        asked_at: float,
        deadline: float,
        connect: float,
        reusable: bool,
        on_release: Callable[[Exchange], None],
    ) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.connect = connect
        self._provider = provider
        self._response = response
        self._content = response.content
        self._chunks = response.chunks
        self.reusable = reusable
        self._on_release = on_release
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._idle = patience.idle
        self._phase: Phase = "first_token"
        self._limit = patience.first_token
        self._since = asked_at
        self._deadline = deadline
        self._reading = False
        self._timer = self._loop.call_at(min(asked_at + self._limit, deadline), self._check)
        self._connection_lost = _connection_lost(response)
        if self._connection_lost is not None:
            self._connection_lost.add_done_callback(self._on_connection_lost)

    async def read(self) -> bytes:
        """What has arrived, or arrives next; empty at the end.

        Raises `ProviderTimeout` (phase `first_token`, `idle` or `total`) and `ProviderUnavailable`.
        """
        self._reading = True
        try:
            if (chunks := self._chunks) is not None:
                while chunks.flowing and not chunks.arrived:
                    await chunks.arrival()
                if chunks.arrived:
                    return chunks.take()
                if chunks.lost:
                    self._note_loss()
            return await self._content.readany()
        except TimeoutError as exc:
            raise timed_out(self._provider, self._phase) from exc
        except (aiohttp.ClientError, HttpProcessingError, OSError) as exc:
            raise ProviderUnavailable(
                self._provider, f"connection broke: {type(exc).__name__}", phase="stream"
            ) from exc
        finally:
            self._reading = False

    @property
    def can_push(self) -> bool:
        """Whether `push` would."""
        return self._chunks is not None and self._chunks.flowing

    async def push(self, sink: Callable[[bytes], bool]) -> None:
        """Call *sink* with what arrives, as it arrives, until it returns False or `read` knows more.

        Raises what *sink* raises.
        """
        if self._chunks is not None:
            self._reading = True
            try:
                await self._chunks.push(sink)
            finally:
                self._reading = False

    async def error_body(self) -> bytes:
        """The start of an error's body, as much as comes in good time."""
        body = b""
        try:
            async with asyncio.timeout(_DRAIN):
                while len(body) < _ERROR_BODY and (data := await self.read()):
                    body += data
        except (ProviderError, TimeoutError):
            pass  # the head alone has to do
        return body

    def progress(self) -> None:
        """Note that words came: the deadline for the next ones starts now."""
        self._since = self._loop.time()
        if self._phase == "first_token":
            self._phase = "idle"
            self._limit_to(self._idle)

    def wind_up(self) -> None:
        """Note that all but the token counts has come: they get 2 s, no more."""
        self._limit_to(_DRAIN)

    def close(self, *, complete: bool = False) -> None:
        """Let go of the socket: closed at once, or kept for reuse if the answer is *complete*.

        A complete answer's socket waits in the background for the end of the body, 2 s at most:
        only then can it carry another request. The second call does nothing.
        """
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        if complete and self.reusable and self._content.exception() is None:
            # aiohttp returns the socket to its pool when the end arrives, whether it is read or not.
            self._timer = self._loop.call_later(_DRAIN, self.release)
            self._content.on_eof(self.release)
        else:
            self.release()

    def release(self) -> None:
        """Close the socket unless the end of the body has come."""
        self._closed = True
        self._timer.cancel()
        if self._connection_lost is not None:
            self._connection_lost.remove_done_callback(self._on_connection_lost)
        self._response.close()
        self._on_release(self)

    def _on_connection_lost(self, lost: asyncio.Future[None]) -> None:
        self._note_loss()

    def _note_loss(self) -> None:
        # When the framing of a body is broken, aiohttp (3.14) closes the socket without a word to
        # whoever reads the body.
        if not self._content.is_eof() and self._content.exception() is None:
            self._content.set_exception(aiohttp.ClientPayloadError("malformed body"))

    def _limit_to(self, seconds: float) -> None:
        if seconds != self._limit and not self._closed:
            self._limit = seconds
            self._timer.cancel()
            self._check()

    def _check(self) -> None:
        """Fail the pending read if the silence lasted too long, or look again when it may have.

        One timer for a whole answer: re-arming it for every token would cost more than decoding one.
        """
        now = self._loop.time()
        # While the consumer has the floor, the silence is not the provider's.
        due = (self._since if self._reading else now) + self._limit
        if now >= self._deadline or now >= due:
            if now >= self._deadline:
                self._phase = "total"
            self._content.set_exception(TimeoutError())
            if self._chunks is not None:
                self._chunks.stop()
        else:
            self._timer = self._loop.call_at(min(due, self._deadline), self._check)


def _connection_lost(response: aiohttp.ClientResponse) -> asyncio.Future[None] | None:
    """Done when the response's connection is lost; None if it was already given back."""
    if response.connection is None or response.connection.protocol is None:
        return None
    lost = response.connection.protocol.closed
    if lost is not None:
        # It belongs to the connection, which may break when nobody looks any more.
        lost.remove_done_callback(_retrieve)
        lost.add_done_callback(_retrieve)
    return lost


def _retrieve(lost: asyncio.Future[None]) -> None:
    """Keep asyncio from reporting an exception that nobody asked for."""
    if not lost.cancelled():
        lost.exception()
