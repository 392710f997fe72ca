"""Anthropic's Messages API."""

from __future__ import annotations

from typing import Final

import msgspec

from services.errors import ProviderProtocolError
from services.events import Batches, Event, Finish, FinishReason, Usage
from services.providers.dialect import append_text, converse
from services.providers.event_decoder import EventDecoder, EventTooLong
from services.providers.failures import stream_failure
from services.providers.transport import Transport
from services.turn import Prompt


class Anthropic:
    """Messages at *base_url* (up to `/v1`)."""

    def __init__(
        self,
        transport: Transport,
        *,
        api_key: str,
        model: str,
        base_url: str = "https://api.anthropic.com/v1",
        max_output_tokens: int = 1024,
        temperature: float | None = None,
    ) -> None:
        self._transport = transport
        self._url = f"{base_url}/messages"
        self._headers = {
            "x-api-key": api_key,
            "anthropic-version": "2023-06-01",
            "content-type": "application/json",
        }
        self._model = model
        self._parameters: dict[str, object] = {
            "model": model,
            "max_tokens": max_output_tokens,
            "stream": True,
        }
        if temperature is not None:
            self._parameters["temperature"] = min(temperature, 1.0)  # its scale ends there

    @property
    def name(self) -> str:
        """The transport's name."""
        return self._transport.provider

    def stream(self, prompt: Prompt) -> Batches:
        """One request; see `Provider.stream`."""
        request = {
            **self._parameters,
            "messages": [
                {"role": said.role, "content": said.content} for said in prompt.alternating
            ],
        }
        if prompt.system:
            request["system"] = prompt.system
        return converse(
            self._transport,
            self._url,
            headers=self._headers,
            body=msgspec.json.encode(request),
            deadline=prompt.deadline,
            model=self._model,
            answer=AnthropicAnswer(self.name, self._model),
        )


class AnthropicAnswer:
    """One answer being decoded: bytes in, events out. See `dialect.Answer`."""

    def __init__(self, provider: str, model: str) -> None:
        self.reason: FinishReason | None = None
        self.finished = False
        self._provider = provider
        self._model = model
        self._usage = _Usage()
        self._decoder = EventDecoder()

    def feed(self, data: bytes, events: list[Event]) -> None:
        """Append what *data* brought to *events*."""
        try:
            for event in self._decoder.feed(data):
                self._take(_decode(event), events)
                if self.finished:
                    return
        except EventTooLong as exc:
            raise self._garbled(str(exc)) from exc
        except (ValueError, RecursionError) as exc:  # not JSON, not UTF-8, not the dialect
            raise self._garbled("sent an event that is not the dialect") from exc

    def end(self, events: list[Event]) -> None:
        """Append `Usage` and `Finish`."""
        if self.reason is None:
            raise self._garbled("ended without a stop_reason")
        usage = self._usage
        if usage.output_tokens is not None:
            # Unlike OpenAI's, its input_tokens leave out what went through the cache.
            cached = usage.cache_read_input_tokens or 0
            written = usage.cache_creation_input_tokens or 0
            tokens_in = (usage.input_tokens or 0) + cached + written
            events.append(
                Usage(tokens_in, usage.output_tokens, self._model, cached=cached, written=written)
            )
        events.append(Finish(self.reason))
        self.finished = True

    def _take(self, said: _Said, events: list[Event]) -> None:
        match said.type:
            case "content_block_delta":
                if said.delta and said.delta.text:
                    append_text(events, said.delta.text)
            case "message_start" if said.message:
                self._model = said.message.model or self._model
                self._count(said.message.usage)
            case "message_delta":
                self._count(said.usage)
                if said.delta and said.delta.stop_reason:
                    self.reason = _REASONS.get(said.delta.stop_reason, "stop")
            case "message_stop":
                self.end(events)
            case "error":
                raise stream_failure(self._provider, said.error)
            case _:
                pass  # ping, the bounds of blocks, and whatever is added to the dialect

    def _count(self, usage: _Usage | None) -> None:
        """Counts are cumulative, and a later event repeats only some of them."""
        if usage:
            for field in usage.__struct_fields__:
                if (count := getattr(usage, field)) is not None:
                    setattr(self._usage, field, count)

    def _garbled(self, message: str) -> ProviderProtocolError:
        return ProviderProtocolError(self._provider, message, phase="stream")


_REASONS: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class _Delta(msgspec.Struct, gc=False):
    text: str | None = None
    stop_reason: str | None = None


class _Message(msgspec.Struct, gc=False):
    model: str | None = None
    usage: _Usage | None = None


class _Said(msgspec.Struct, gc=False):
    type: str = ""
    delta: _Delta | None = None
    message: _Message | None = None
    usage: _Usage | None = None
    error: object = None


_decode = msgspec.json.Decoder(_Said).decode
