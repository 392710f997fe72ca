"""Anthropic's Messages API."""

from __future__ import annotations

from typing import Final

import msgspec

from services.events import Batches, Event, FinishReason, Usage
from services.providers.claims import count_in, model_name
from services.providers.dialect import append_text, converse
from services.providers.event_answer import EventAnswer
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
        headers = {
            "x-api-key": api_key,
            "anthropic-version": "2023-06-01",
            "content-type": "application/json",
        }
        self._endpoint = transport.endpoint(f"{base_url}/messages", headers)
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
        request = {**self._parameters, "messages": prompt.alternating}
        if prompt.system:
            request["system"] = prompt.system
        return converse(
            self._transport,
            self._endpoint,
            msgspec.json.encode(request),
            deadline=prompt.deadline,
            model=self._model,
            answer=AnthropicAnswer(self.name, self._model),
        )


class AnthropicAnswer(EventAnswer["_Said"]):
    """One answer being decoded: bytes in, events out. See `dialect.Answer`."""

    reason_is_called = "stop_reason"

    def __init__(self, provider: str, model: str) -> None:
        super().__init__(provider, model, _DECODER, _Said)
        self._counts: dict[str, int] = {}

    def take(self, said: _Said, events: list[Event]) -> None:
        """Append the words of an event, or what it counts, and raise its error."""
        match said.type:
            case "content_block_delta":
                if said.delta and said.delta.text:
                    append_text(events, said.delta.text)
            case "message_start" if said.message:
                self.model = model_name(said.message.model, self.model)
                self._count(said.message.usage, events)
            case "message_delta":
                if said.delta and said.delta.stop_reason:
                    self.reason = _REASONS.get(said.delta.stop_reason, "stop")
                self._count(said.usage, events)
            case "message_stop":
                self.end(events)
            case "error":
                raise stream_failure(self.provider, said.error)
            case _:
                pass  # ping, the bounds of blocks, and whatever is added to the dialect

    def _count(self, usage: object, events: list[Event]) -> None:
        """Note what the answer used, and report at once what it used so far: it may be cut or stopped."""
        # Counts are cumulative, and a later event repeats only some of them.
        counts = self._counts
        for name in _COUNTS:
            if (count := count_in(usage, name)) is not None:
                counts[name] = count
        if "input_tokens" not in counts:
            return
        # Unlike OpenAI's, its input_tokens leave out what went through the cache.
        cached = counts.get("cache_read_input_tokens", 0)
        written = counts.get("cache_creation_input_tokens", 0)
        final = self.reason is not None and count_in(usage, "output_tokens") is not None
        self.usage = Usage(
            counts["input_tokens"] + cached + written,
            counts.get("output_tokens", 0),
            self.model,
            cached=cached,
            written=written,
            estimated=not final,
        )
        if self.reason is None:
            events.append(self.usage)

    def mend(self, said: _Said) -> None:
        """Join what was torn."""
        if said.delta and said.delta.text:
            said.delta.text = self.torn.join(said.delta.text)


_REASONS: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}


_COUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)


class _Delta(msgspec.Struct, gc=False):
    text: str | None = None
    stop_reason: str | None = None


class _Message(msgspec.Struct, gc=False):
    model: str | None = None
    usage: object = None


class _Said(msgspec.Struct, gc=False):
    type: str = ""
    delta: _Delta | None = None
    message: _Message | None = None
    usage: object = None
    error: object = None


_DECODER: Final = msgspec.json.Decoder(_Said)
