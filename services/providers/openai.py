"""OpenAI chat completions, and whatever speaks the same dialect."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import msgspec

from services.errors import ProviderProtocolError
from services.events import Batches, Event, Finish, FinishReason, TextDelta, Usage
from services.providers.claims import count_in, model_name
from services.providers.dialect import LONGEST_DELTA, append_text, converse
from services.providers.event_decoder import EventDecoder, EventTooLong
from services.providers.failures import stream_failure
from services.providers.torn_text import TornText, decode_leniently
from services.providers.transport import Transport
from services.turn import Prompt


class OpenAI:
    """Chat completions at *base_url* (up to `/v1`)."""

    def __init__(
        self,
        transport: Transport,
        *,
        api_key: str,
        model: str,
        base_url: str = "https://api.openai.com/v1",
        max_output_tokens: int = 1024,
        temperature: float | None = None,
    ) -> None:
        self._transport = transport
        self._url = f"{base_url}/chat/completions"
        self._headers = {"authorization": f"Bearer {api_key}", "content-type": "application/json"}
        self._model = model
        self._parameters: dict[str, object] = {
            "model": model,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if (urlsplit(base_url).hostname or "").endswith(".openai.com"):
            # Newer than the dialect that others speak: a better name, and no padding in the chunks.
            self._parameters["max_completion_tokens"] = max_output_tokens
            self._parameters["stream_options"] = {
                "include_usage": True,
                "include_obfuscation": False,
            }
        else:
            self._parameters["max_tokens"] = max_output_tokens
        if temperature is not None:
            self._parameters["temperature"] = temperature

    @property
    def name(self) -> str:
        """The transport's name."""
        return self._transport.provider

    def stream(self, prompt: Prompt) -> Batches:
        """One request; see `Provider.stream`."""
        messages = [{"role": said.role, "content": said.content} for said in prompt.alternating]
        if prompt.system:
            messages.insert(0, {"role": "system", "content": prompt.system})
        return converse(
            self._transport,
            self._url,
            headers=self._headers,
            body=msgspec.json.encode({**self._parameters, "messages": messages}),
            deadline=prompt.deadline,
            model=self._model,
            answer=OpenAIAnswer(self.name, self._model),
        )


class OpenAIAnswer:
    """One answer being decoded: bytes in, events out. See `dialect.Answer`."""

    def __init__(self, provider: str, model: str) -> None:
        self.reason: FinishReason | None = None
        self.finished = False
        self._provider = provider
        self._model = model
        self._usage: Usage | None = None
        self._torn = TornText()
        self._decoder = EventDecoder()

    def feed(self, data: bytes, events: list[Event]) -> None:
        """Append what *data* brought to *events*."""
        try:
            for event in self._decoder.feed(data):
                if event == b"[DONE]":
                    self.end(events)
                    return
                try:
                    chunk = _decode(event)
                except ValueError:
                    chunk = self._mend(event)
                self._take(chunk, events)
        except EventTooLong as exc:
            raise self._garbled(str(exc)) from exc
        except (ValueError, RecursionError) as exc:  # not JSON, not UTF-8, not the dialect
            raise self._garbled("sent a chunk that is not the dialect") from exc

    def end(self, events: list[Event]) -> None:
        """Append `Usage`, if it came, and `Finish`."""
        if self.reason is None:
            raise self._garbled("ended without a finish_reason")
        if self._usage is not None:
            events.append(self._usage)
        events.append(Finish(self.reason))
        self.finished = True

    def _take(self, chunk: _Chunk, events: list[Event]) -> None:
        error = chunk.error
        if chunk.choices:
            for choice in chunk.choices:
                if choice.index:
                    continue
                if (delta := choice.delta) and (text := delta.content or delta.refusal):
                    if len(text) <= LONGEST_DELTA:
                        events.append(TextDelta(text))
                    else:
                        append_text(events, text)
                if reason := choice.finish_reason:
                    if reason in _FAILURES:
                        error = error or {"code": reason}
                    elif not error:
                        self.reason = _REASONS.get(reason, "stop")
        if chunk.usage:
            self._count(chunk, events)
        if error:
            raise stream_failure(self._provider, error)

    def _count(self, chunk: _Chunk, events: list[Event]) -> None:
        """Note what the answer used, and report at once what it used so far: it may be cut or stopped."""
        usage = chunk.usage
        if (tokens_in := count_in(usage, "prompt_tokens")) is None:
            return
        # completion_tokens includes the reasoning tokens, prompt_tokens the cached ones.
        tokens_out = count_in(usage, "completion_tokens")
        details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
        self._model = model_name(chunk.model, self._model)
        self._usage = Usage(
            tokens_in,
            tokens_out or 0,
            self._model,
            cached=min(count_in(details, "cached_tokens") or 0, tokens_in),
            estimated=self.reason is None or tokens_out is None,
        )
        if self.reason is None:
            events.append(self._usage)

    def _mend(self, event: bytes) -> _Chunk:
        chunk = decode_leniently(event, _Chunk)
        for choice in chunk.choices or ():
            if not choice.index and (delta := choice.delta):
                delta.content = self._torn.join(delta.content or delta.refusal or "")
                delta.refusal = None
        return chunk

    def _garbled(self, message: str) -> ProviderProtocolError:
        return ProviderProtocolError(self._provider, message, phase="stream")


_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "stop",
    "function_call": "stop",
}

# OpenRouter ends with the first, beside the error itself; DeepSeek with the second, and without one.
_FAILURES: Final = frozenset({"error", "insufficient_system_resource"})


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int | None = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: object = None
    error: object = None


_decode = msgspec.json.Decoder(_Chunk).decode
