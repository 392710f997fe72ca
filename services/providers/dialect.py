"""An answer over HTTP, whatever the dialect: ask, decode what each read brings, end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Protocol, Self

from services.errors import ProviderError
from services.events import (
    Batch,
    Batches,
    Connected,
    Event,
    FinishReason,
    Offer,
    TextDelta,
    has_text,
)
from services.providers.exchange import Exchange
from services.providers.failures import http_failure
from services.providers.transport import Transport

# A delta becomes one frame, and a frame must stay small next to a connection's write buffer.
LONGEST_DELTA = 8192


class Answer(Protocol):
    """One answer being decoded, in one provider's dialect."""

    reason: FinishReason | None
    """Why the answer ended, as soon as the provider said so: from then on nothing is missing but counts."""

    finished: bool
    """Whether `Finish` was appended."""

    def feed(self, data: bytes, events: list[Event]) -> None:
        """Append to *events* what *data* brought. Raises `ProviderError`, having appended what came before."""
        ...

    def end(self, events: list[Event]) -> None:
        """Append the last events: the provider will send no more. Raises `ProviderProtocolError` if that is too early."""
        ...


async def converse(
    transport: Transport,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
    deadline: float | None,
    model: str,
    answer: Answer,
) -> Batches:
    """Ask, and yield what each read from the network brought as one batch.

    Raises `ProviderError`. Closing it, or cancelling, closes the socket at once; after `Finish`
    the socket is kept for the next turn.
    """
    exchange = await transport.post(url, headers=headers, body=body, deadline=deadline)
    try:
        if exchange.status != 200:
            raise http_failure(
                transport.provider, exchange.status, exchange.headers, await exchange.error_body()
            )
        yield (Connected(transport.provider, model, exchange.connect),)
        offer: _Offer | None = None
        while not answer.finished or (offer is not None and offer.held):
            events: list[Event] = []
            try:
                if offer is not None and offer.held:
                    offer.settle(events)
                elif data := await exchange.read():
                    answer.feed(data, events)
                else:
                    answer.end(events)
            except ProviderError:
                if answer.reason is None:
                    if events:
                        yield events
                    raise
                answer.end(events)  # the text is whole; what broke carried counts at most
            if answer.finished:
                exchange.close(complete=True)
            if offer is None and answer.reason is None and exchange.can_push and has_text(events):
                offer = _Offer(events, exchange, answer)
                yield offer
                exchange.progress()
            elif events:
                yield events
                exchange.progress()
            if answer.reason is not None:
                exchange.wind_up()
    finally:
        exchange.close()


class _Offer(Offer):
    """Pushes words; what is more than words is held for `settle`."""

    held = False
    _exchange: Exchange
    _answer: Answer
    _held: list[Event]
    _failure: ProviderError | None

    def __new__(cls, events: Batch, exchange: Exchange, answer: Answer) -> Self:
        """A batch of *events*, which *exchange* brought for *answer*."""
        self = super().__new__(cls, events)
        self._exchange = exchange
        self._answer = answer
        self._held = []
        self._failure = None
        return self

    async def push(self, take: Callable[[Batch], None]) -> None:
        """See `Offer.push`."""
        feed, progress = self._answer.feed, self._exchange.progress
        run = copy_context().run

        def sink(data: bytes) -> bool:
            events: list[Event] = []
            try:
                feed(data, events)
            except ProviderError as exc:
                self._failure = exc
            if self._failure is not None or self._answer.reason is not None:
                self.held, self._held = True, events
                return False
            if events:
                run(take, events)
                progress()
            return True

        progress()
        await self._exchange.push(sink)

    def settle(self, events: list[Event]) -> None:
        """Append to *events* what was held back, and raise what was."""
        self.held = False
        events += self._held
        if self._failure is not None:
            raise self._failure


def append_text(events: list[Event], text: str) -> None:
    """Append *text* to *events*, in pieces of bounded length."""
    if len(text) <= LONGEST_DELTA:
        events.append(TextDelta(text))
    else:
        cuts = range(0, len(text), LONGEST_DELTA)
        events.extend(TextDelta(text[cut : cut + LONGEST_DELTA]) for cut in cuts)
