"""An answer over HTTP, whatever the dialect: ask, decode what each read brings, end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from typing import Final, Protocol, Self

from services.errors import ProviderError
from services.events import (
    Attempt,
    Batch,
    Batches,
    Connected,
    Event,
    FinishReason,
    Offer,
    TextDelta,
    has_text,
)
from services.providers.endpoint import Endpoint
from services.providers.exchange import Exchange
from services.providers.failures import http_failure, no_stream
from services.providers.transport import Transport

# A delta becomes one frame, and a frame must stay small next to a connection's write buffer.
LONGEST_DELTA = 8192

# Some gateways do not say, or say less than it is.
_STREAMS: Final = frozenset({"", "text/event-stream", "text/plain"})


class Answer(Protocol):
    """One answer being decoded, in one provider's dialect."""

    reason: FinishReason | None
    """Why the answer ended, as soon as the provider said so: from then on nothing is missing but counts."""

    finished: bool
    """Whether `Finish` was appended."""

    def feed(self, data: bytes, events: list[Event]) -> None:
        """Append to *events* what *data* brought. Raises `ProviderError`, after all that came before it."""
        ...

    def end(self, events: list[Event]) -> None:
        """Append the last events: the provider will send no more. Raises `ProviderProtocolError` if that is too early."""
        ...


async def converse(
    transport: Transport,
    endpoint: Endpoint,
    body: bytes,
    *,
    deadline: float | None,
    model: str,
    answer: Answer,
) -> Batches:
    """Ask, and yield what each read from the network brought as one batch.

    Raises `ProviderError`. Closing it, or cancelling, closes the socket at once; after `Finish`
    the socket is kept for the next turn.
    """
    ask = partial(transport.post, endpoint, body, deadline=deadline)
    question = _Question(transport.provider, model, ask)
    try:
        yield question
        exchange = await question.answered()
        if question.untold:
            yield question.untold
        await _check_head(transport.provider, exchange)
        reading = _Reading(exchange, answer)
        offered = False
        while not reading.ended:
            events, failure = await reading.next()
            if answer.finished:
                exchange.close(complete=True)
            spoken = has_text(events)
            if failure is not None:
                if events:
                    yield events
                raise failure
            if spoken and not offered and answer.reason is None and exchange.can_push:
                offered = True
                yield _Words(events, reading)
            elif events:
                yield events
            if spoken:
                exchange.progress()
            if answer.reason is not None:
                exchange.wind_up()
    finally:
        question.close()


async def _check_head(provider: str, exchange: Exchange) -> None:
    """Raise the `ProviderError` that a head stands for which announces no event stream."""
    headers = exchange.headers
    if exchange.status != 200:
        raise http_failure(provider, exchange.status, headers, await exchange.error_body())
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in _STREAMS:
        raise no_stream(provider, media_type, headers, await exchange.error_body())


class _Question(Offer):
    """The question, before it is sent. Pushes `Connected` while the provider makes up its mind."""

    untold: Batch
    """What happened while nobody had it pushed."""

    _names: tuple[str, str]
    _ask: Callable[..., Awaitable[Exchange]]
    _exchange: Exchange | None
    _failure: ProviderError | None

    def __new__(cls, provider: str, model: str, ask: Callable[..., Awaitable[Exchange]]) -> Self:
        """What *ask* will ask the *model* of *provider*."""
        self = super().__new__(cls, (Attempt(provider, model),))
        self.untold = ()
        self._names = provider, model
        self._ask = ask
        self._exchange = None
        self._failure = None
        return self

    async def push(self, take: Callable[[Batch], None]) -> None:
        """See `Offer.push`."""

        def connected(seconds: float) -> None:
            take((Connected(*self._names, seconds),))

        try:
            self._exchange = await self._ask(on_connected=connected)
        except ProviderError as exc:
            self._failure = exc

    async def answered(self) -> Exchange:
        """Ask, unless `push` has, and return the answer's beginning. Raises `ProviderError`."""
        if self._failure is not None:
            raise self._failure
        if self._exchange is None:
            self._exchange = await self._ask()
            self.untold = (Connected(*self._names, self._exchange.connect),)
        return self._exchange

    def close(self) -> None:
        """Let go of the socket, if there is one."""
        if self._exchange is not None:
            self._exchange.close()


class _Reading:
    """What *exchange* brings, as events of *answer*: one batch and, if that is where it breaks, the failure."""

    def __init__(self, exchange: Exchange, answer: Answer) -> None:
        self._exchange = exchange
        self._answer = answer
        self._left: tuple[list[Event], ProviderError | None] | None = None  # by `push`, for `next`

    @property
    def ended(self) -> bool:
        """Whether there is no `next`."""
        return self._answer.finished and self._left is None

    async def next(self) -> tuple[list[Event], ProviderError | None]:
        """The next batch, which may be empty."""
        if self._left is not None:
            (events, failure), self._left = self._left, None
        else:
            events, failure = [], None
            try:
                if data := await self._exchange.read():
                    self._answer.feed(data, events)
                else:
                    self._answer.end(events)
            except ProviderError as exc:
                failure = exc
        if failure is not None and self._answer.reason is not None:
            failure = None  # the text is whole; what broke carried counts at most
            self._answer.end(events)
        return events, failure

    async def push(self, take: Callable[[Batch], None]) -> None:
        """Call *take* with the batches that are words, and perhaps counts; leave the first other one for `next`."""
        answer, feed, progress = self._answer, self._answer.feed, self._exchange.progress
        run = copy_context().run

        def sink(data: bytes) -> bool:
            events: list[Event] = []
            try:
                feed(data, events)
            except ProviderError as exc:
                self._left = events, exc
                return False
            if answer.reason is not None:
                self._left = events, None
                return False
            if events:
                run(take, events)
                if type(events[-1]) is TextDelta or has_text(events):
                    progress()
            return True

        progress()
        await self._exchange.push(sink)


class _Words(Offer):
    """The first words of an answer, which can push those that follow."""

    _reading: _Reading

    def __new__(cls, events: Batch, reading: _Reading) -> Self:
        """*events*, which *reading* brought."""
        self = super().__new__(cls, events)
        self._reading = reading
        return self

    async def push(self, take: Callable[[Batch], None]) -> None:
        """See `Offer.push`."""
        await self._reading.push(take)


def append_text(events: list[Event], text: str) -> None:
    """Append *text* to *events*, in pieces of bounded length."""
    if len(text) <= LONGEST_DELTA:
        events.append(TextDelta(text))
    else:
        cuts = range(0, len(text), LONGEST_DELTA)
        events.extend(TextDelta(text[cut : cut + LONGEST_DELTA]) for cut in cuts)
