"""One request and its answer being read, with a deadline on every silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError

from services.errors import Phase, ProviderError, ProviderUnavailable
from services.providers.chunk_reader import ChunkReader
from services.providers.failures import timed_out

_DRAIN = 2.0
_ERROR_BODY = 65_536
_SURELY_TAKEN = 65_536  # bytes of a request that the kernel has room for


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds a provider may stay silent: before its first token, and between two of them."""

    first_token: float
    idle: float


class Exchange:
    """One request on *connection*, and its answer. `ask` comes first, and sets `status` and `headers`.

    `connect` is the seconds that it *took* to get the connection, 0.0 if that is `reused`; `reusable` tells
    whether it can go back to a pool. *deadline* is in the event loop's time; *on_release* is called when the
    exchange has let go of its connection.
    """

    status: int
    headers: Mapping[str, str]

    def __init__(
        self,
        provider: str,
        connection: Connection,
        *,
        patience: Patience,
        deadline: float,
        took: float,
        reusable: bool,
        on_release: Callable[[Exchange], None],
    ) -> None:
        assert connection.protocol is not None  # noqa: S101 - a connector has just returned it
        self._connection = connection
        self._protocol = connection.protocol
        self.reused = self._protocol._parser is not None  # it gets one for its first answer
        self.connect = 0.0 if self.reused else took
        self.reusable = reusable
        self._provider = provider
        self._content: aiohttp.StreamReader = aiohttp.EMPTY_PAYLOAD
        self._chunks: ChunkReader | None = None
        self._lost: asyncio.Future[None] | None = None
        self._on_release = on_release
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._idle = patience.idle
        self._phase: Phase = "first_token"
        self._limit = patience.first_token
        self.connected_at = self._since = self._loop.time()
        self._deadline = deadline
        self._expired = False
        self._huge = False
        self._reading = True
        self._timer = self._loop.call_at(min(self._since + self._limit, deadline), self._check)

    async def ask(self, request: bytes) -> None:
        """Send *request* and wait for the head of an answer, whatever its status.

        Raises `ProviderTimeout` (phase `first_token` or `total`) and `ProviderUnavailable`.
        """
        try:
            self._send(request)
            message, self._content = await self._protocol.read()
            while 100 <= message.code < 200 and message.code != HTTPStatus.SWITCHING_PROTOCOLS:
                message, self._content = await self._protocol.read()
        except TimeoutError as exc:
            raise timed_out(self._provider, self._phase) from exc
        except (aiohttp.ClientError, HttpProcessingError, OSError) as exc:
            raise ProviderUnavailable(
                self._provider, f"connection failed: {type(exc).__name__}", phase="headers"
            ) from exc
        self._reading = False
        self.status = message.code
        self.headers = message.headers
        if (lost := self._protocol.closed) is not None:
            if not self.reused:
                # The future is the connection's, which may break when nobody looks any more.
                lost.add_done_callback(_retrieve)
            lost.add_done_callback(self._on_connection_lost)
            self._lost = lost
        self._content.on_eof(self._give_back)
        if self._expired:  # just when the head came
            self._content.set_exception(TimeoutError())

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
                if self._protocol.exception() is not None:
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
            self._timer = self._loop.call_later(_DRAIN, self.release)
            self._content.on_eof(self.release)
        else:
            self.release()

    def release(self) -> None:
        """Close the socket unless the end of the body has come."""
        self._closed = True
        self._timer.cancel()
        if self._lost is not None:
            self._lost.remove_done_callback(self._on_connection_lost)
        if self._connection.protocol is not None:
            if self._content.exception() is None:
                self._content.set_exception(aiohttp.ClientConnectionError("closed"))
            self._hang_up()
        self._on_release(self)

    def _send(self, request: bytes) -> None:
        protocol, transport = self._protocol, self._connection.transport
        early = protocol.should_close  # something came before anybody asked
        if early and self.reused:
            raise aiohttp.ServerDisconnectedError  # it is no answer to this request
        protocol.set_response_params(read_until_eof=True)
        if transport is None:
            return  # closed; the protocol tells why
        if not early:  # otherwise nobody can tell how much has come
            self._chunks = ChunkReader(protocol, transport)
        self._huge = len(request) > _SURELY_TAKEN
        transport.write(request)

    def _give_back(self) -> None:
        """Return the socket to its pool: the end of the body has come, whether it was read or not."""
        transport = self._connection.transport
        # With TLS the buffer is empty as soon as all is encrypted, though a provider that refuses may not have
        # read all of it.
        refused = self._huge and self.status != HTTPStatus.OK
        if refused or (transport is not None and transport.get_write_buffer_size()):
            self._hang_up()  # what is left of this request would be the beginning of the next one
        else:
            self._connection.release()

    def _hang_up(self) -> None:
        # Closing alone would wait until the provider has taken what is left of the request and, with
        # TLS, said goodbye.
        self._protocol.abort()
        self._connection.close()

    def _on_connection_lost(self, lost: asyncio.Future[None]) -> None:
        self._note_loss()
        if self._closed:  # there will be no end of the body to wait for
            self.release()

    def _note_loss(self) -> None:
        # When the framing of a body is broken, aiohttp (3.14) closes the socket without a word to
        # whoever reads the body.
        if not self._content.is_eof() and self._content.exception() is None:
            self._content.set_exception(aiohttp.ClientPayloadError("malformed body"))

    def _limit_to(self, seconds: float) -> None:
        sooner = seconds < self._limit
        self._limit = seconds
        if sooner and not self._closed:  # if later, `_check` sees when it looks
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
            self._expired = True
            if self._connection.protocol is not None:
                self._protocol.set_exception(TimeoutError())  # for `ask`
            self._content.set_exception(TimeoutError())
            if self._chunks is not None:
                self._chunks.stop()
        else:
            self._timer = self._loop.call_at(min(due, self._deadline), self._check)


def _retrieve(lost: asyncio.Future[None]) -> None:
    """Keep asyncio from reporting an exception that nobody asked for."""
    if not lost.cancelled():
        lost.exception()
