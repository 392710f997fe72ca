"""An answer over HTTP, whatever the dialect: ask, decode what each read brings, end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from services.errors import ProviderError
from services.events import Batches, Connected, Event, FinishReason, TextDelta
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
        while not answer.finished:
            events: list[Event] = []
            try:
                if data := await exchange.read():
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
            if events:
                yield events
                exchange.progress()
            if answer.reason is not None:
                exchange.wind_up()
    finally:
        exchange.close()


def append_text(events: list[Event], text: str) -> None:
    """Append *text* to *events*, in pieces of bounded length."""
    if len(text) <= LONGEST_DELTA:
        events.append(TextDelta(text))
    else:
        cuts = range(0, len(text), LONGEST_DELTA)
        events.extend(TextDelta(text[cut : cut + LONGEST_DELTA]) for cut in cuts)
