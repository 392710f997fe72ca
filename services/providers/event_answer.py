"""An answer as JSON in server-sent events: bytes in, events out, as far as all dialects agree."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Final, Generic, TypeVar

import msgspec

from services.errors import ProviderProtocolError
from services.events import Event, Finish, FinishReason, Usage
from services.providers.event_decoder import EventDecoder, EventTooLong
from services.providers.torn_text import TornText, decode_leniently

Said = TypeVar("Said", bound=msgspec.Struct)

# OpenAI's last event, and that of gateways which speak Anthropic's dialect with its manners.
_DONE: Final = b"[DONE]"


class EventAnswer(ABC, Generic[Said]):
    """One answer of *model* being decoded, see `dialect.Answer`; a dialect says what its events mean.

    Each event is decoded as what *decoder* makes of it. The dialect's `take` notes the `reason` and the
    `usage`, and may call `end`.
    """

    reason_is_called: ClassVar[str]
    """The field without which an answer is not complete, for the log."""

    def __init__(
        self, provider: str, model: str, decoder: msgspec.json.Decoder[Said], kind: type[Said]
    ) -> None:
        self.reason: FinishReason | None = None
        self.finished = False
        self.usage: Usage | None = None
        self.provider = provider
        self.model = model
        self.torn = TornText()
        self._decode = decoder.decode
        self._kind = kind
        self._decoder = EventDecoder()

    def feed(self, data: bytes, events: list[Event]) -> None:
        """Append what *data* brought to *events*."""
        try:
            for event in self._decoder.feed(data):
                if event == _DONE:
                    self.end(events)
                    return
                try:
                    said = self._decode(event)
                except ValueError:
                    said = decode_leniently(event, self._kind)
                    self.mend(said)
                self.take(said, events)
                if self.finished:
                    return
        except EventTooLong as exc:
            raise self._garbled(str(exc)) from exc
        except (ValueError, RecursionError) as exc:  # not JSON, not UTF-8, not the dialect
            raise self._garbled("sent an event that is not the dialect") from exc

    def end(self, events: list[Event]) -> None:
        """Append `Usage`, if it came, and `Finish`."""
        if self.reason is None:
            raise self._garbled(f"ended without a {self.reason_is_called}")
        if self.usage is not None:
            events.append(self.usage)
        events.append(Finish(self.reason))
        self.finished = True

    @abstractmethod
    def take(self, said: Said, events: list[Event]) -> None:
        """Append what *said* means to *events*. Raises `ProviderError`."""

    @abstractmethod
    def mend(self, said: Said) -> None:
        """Put what is torn in the text of *said* together by `torn`."""

    def _garbled(self, message: str) -> ProviderProtocolError:
        return ProviderProtocolError(self.provider, message, phase="stream")
