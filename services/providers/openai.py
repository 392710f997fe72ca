"""OpenAI chat completions, and whatever speaks the same dialect."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import msgspec

from services.events import Batches, Event, FinishReason, TextDelta, Usage
from services.providers.claims import count_in, model_name
from services.providers.dialect import LONGEST_DELTA, append_text, converse
from services.providers.event_answer import EventAnswer
from services.providers.failures import stream_failure
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
        headers = {"content-type": "application/json"}
        if api_key:  # a server of one's own may want none
            headers["authorization"] = f"Bearer {api_key}"
        self._endpoint = transport.endpoint(f"{base_url}/chat/completions", headers)
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
        messages: list[object] = [*prompt.alternating]
        if prompt.system:
            messages.insert(0, {"role": "system", "content": prompt.system})
        return converse(
            self._transport,
            self._endpoint,
            msgspec.json.encode({**self._parameters, "messages": messages}),
            deadline=prompt.deadline,
            model=self._model,
            answer=OpenAIAnswer(self.name, self._model),
        )


class OpenAIAnswer(EventAnswer["_Chunk"]):
    """One answer being decoded: bytes in, events out. See `dialect.Answer`."""

    reason_is_called = "finish_reason"

    def __init__(self, provider: str, model: str) -> None:
        super().__init__(provider, model, _DECODER, _Chunk)

    def take(self, said: _Chunk, events: list[Event]) -> None:
        """Append the words of a chunk, and raise its error."""
        error = said.error
        if said.choices:
            for choice in said.choices:
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
        if said.usage:
            self._count(said, events)
        if error:
            raise stream_failure(self.provider, error)

    def _count(self, chunk: _Chunk, events: list[Event]) -> None:
        """Note what the answer used, and report at once what it used so far: it may be cut or stopped."""
        usage = chunk.usage
        if (tokens_in := count_in(usage, "prompt_tokens")) is None:
            return
        # completion_tokens includes the reasoning tokens, prompt_tokens the cached ones.
        tokens_out = count_in(usage, "completion_tokens")
        details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
        self.model = model_name(chunk.model, self.model)
        self.usage = Usage(
            tokens_in,
            tokens_out or 0,
            self.model,
            cached=min(count_in(details, "cached_tokens") or 0, tokens_in),
            estimated=self.reason is None or tokens_out is None,
        )
        if self.reason is None:
            events.append(self.usage)

    def mend(self, said: _Chunk) -> None:
        """Join what was torn."""
        for choice in said.choices or ():
            if not choice.index and (delta := choice.delta):
                delta.content = self.torn.join(delta.content or delta.refusal or "")
                delta.refusal = None


_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "model_length": "length",  # Mistral's, for the end of its context
    "content_filter": "content_filter",
    "tool_calls": "stop",
    "function_call": "stop",
}

# OpenRouter ends with the first, beside the error itself; DeepSeek with the second, and without one. vLLM and SGLang
# end with the third what they cut themselves (https://github.com/vllm-project/vllm/issues/57082).
_FAILURES: Final = frozenset({"error", "insufficient_system_resource", "abort"})


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


_DECODER: Final = msgspec.json.Decoder(_Chunk)
