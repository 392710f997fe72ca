"""The report of one turn: a fold over its events that says what it took and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from time import perf_counter
from typing import Literal, Protocol, assert_never

from services.events import (
    Asked,
    Attempt,
    Connected,
    Event,
    Finish,
    Recalled,
    Retry,
    TextDelta,
    Usage,
)
from services.telemetry import TelemetryEvent, Value
from services.turn import Prompt, Turn


class Tokens(Protocol):
    """Counts tokens locally."""

    def count(self, text: str) -> int:
        """Tokens of *text*."""
        ...

    def count_prompt(self, prompt: Prompt) -> int:
        """Tokens of *prompt*, with what its messages cost besides their text."""
        ...


class Prices(Protocol):
    """Knows what tokens cost."""

    def cost(
        self, model: str, *, tokens_in: int, tokens_out: int, cached: int = 0, written: int = 0
    ) -> Decimal | None:
        """US dollars, exactly; None if *model* has no known price."""
        ...


@dataclass(frozen=True, slots=True)
class Accountant:
    """What a report needs to count and price."""

    tokens: Tokens
    prices: Prices

    def price(self, usage: Usage) -> Usage:
        """*usage* with its cost."""
        cost = self.prices.cost(
            usage.model,
            tokens_in=usage.tokens_in,
            tokens_out=usage.tokens_out,
            cached=usage.cached,
            written=usage.written,
        )
        return replace(usage, cost_usd=cost)


class Report:
    """Everything worth recording of one turn; times count from its creation."""

    __slots__ = (
        "_accountant",
        "_clock",
        "_connected",
        "_ended",
        "_first_text",
        "_model",
        "_prompt",
        "_provider",
        "_recalled",
        "_retries",
        "_started",
        "_text",
        "disconnected",
        "events",
        "finish",
        "idempotent_replays",
        "resumed",
        "turn",
        "usage",
    )

    def __init__(
        self, turn: Turn, accountant: Accountant, *, clock: Callable[[], float] = perf_counter
    ) -> None:
        self.turn = turn
        self.finish: Finish | None = None
        self.usage: Usage | None = None
        self.events = 0
        self.disconnected = False
        self.resumed = 0
        self.idempotent_replays = 0
        self._accountant = accountant
        self._clock = clock
        self._started = clock()
        self._recalled: Recalled | None = None
        self._prompt: Prompt | None = None
        self._connected: Connected | None = None
        self._retries = 0
        self._provider: str | None = None
        self._model: str | None = None
        self._first_text: float | None = None
        self._ended: float | None = None
        self._text: list[str] = []

    def hear(self, texts: Sequence[str]) -> None:
        """Take pieces of the answer into account, as `observe` would one by one."""
        if self._first_text is None and texts:
            self._first_text = self._clock()
        self._text += texts

    def observe(self, event: Event) -> None:
        """Take one event of the turn into account."""
        match event:
            case TextDelta(text):
                self.hear((text,))
            case Recalled():
                self._recalled = event
            case Asked(prompt):
                self._prompt = prompt
            case Attempt(provider, model):
                self._provider, self._model = provider, model
            case Connected(provider, model):
                self._connected, self._provider, self._model = event, provider, model
            case Retry(provider):
                self._retries, self._provider = self._retries + 1, provider
                self._connected = self.usage = None
            case Usage():
                self.usage = event
            case Finish():
                self.finish, self._ended = event, self._clock()
                self._provider = event.provider or self._provider
            case _:
                assert_never(event)

    def settle(self, default_model: str) -> Usage:
        """The turn's usage with its cost: the provider's count, or else an estimate.

        An estimate has what the provider had counted so far, and counts here what it had not: the prompt,
        if a provider may have worked on it, and the text that arrived.
        """
        tokens = self._accountant.tokens
        usage = self.usage
        if usage is None:
            prompt = self._prompt if self._taken else None
            usage = Usage(
                tokens_in=0 if prompt is None else tokens.count_prompt(prompt),
                tokens_out=0,
                model=self._model or default_model,
                estimated=True,
            )
        if usage.estimated:
            said = tokens.count("".join(self._text))
            usage = replace(usage, tokens_out=max(usage.tokens_out, said))
        self.usage = self._accountant.price(usage)
        return self.usage

    @property
    def _taken(self) -> bool:
        """Whether the last attempt's prompt went out, and was not refused then: refusals are free."""
        finish = self.finish
        refused = finish is not None and finish.phase == "headers" and finish.status is not None
        return self._connected is not None and not refused

    def fields(self) -> dict[str, Value]:
        """The payload of the turn's `openai_call` row, and of its last log line."""
        recalled, connected, usage, finish = (
            self._recalled,
            self._connected,
            self.usage,
            self.finish,
        )
        return {
            "provider": self._provider,
            "model": usage.model if usage else self._model,
            "provider_retry_count": self._retries,
            "memory_ms": _milliseconds(recalled.elapsed) if recalled else None,
            "memory_degraded": recalled.degraded if recalled else None,
            "connect_ms": _milliseconds(connected.connect) if connected else None,
            "ttft_ms": self._since_start(self._first_text),
            "total_ms": self._since_start(self._ended),
            "tokens_in": usage.tokens_in if usage else 0,
            "tokens_out": usage.tokens_out if usage else 0,
            "cached_tokens": usage.cached if usage else 0,
            "cache_write_tokens": usage.written if usage else 0,
            "estimated": usage.estimated if usage else False,
            "cost_usd": usage.cost_usd if usage else None,
            "finish_reason": finish.reason if finish else None,
            "events": self.events,
            "disconnected": self.disconnected,
            "resumed": self.resumed,
            "idempotent_replays": self.idempotent_replays,
        }

    def telemetry(self) -> list[TelemetryEvent]:
        """The turn's rows: one `openai_call`, and one `error` if it failed."""
        finish = self.finish
        rows = [self._row("openai_call", self.fields())]
        if finish is not None and finish.reason == "error":
            rows.append(
                self._row(
                    "error",
                    {
                        "code": finish.code,
                        "status": finish.status,
                        "phase": finish.phase,
                        "provider": self._provider,
                        "retry_after_ms": finish.retry_after_ms,
                    },
                )
            )
        return rows

    def _row(
        self, kind: Literal["openai_call", "error"], payload: dict[str, Value]
    ) -> TelemetryEvent:
        turn = self.turn
        return TelemetryEvent(
            type=kind,
            request_id=turn.request_id,
            user_id=turn.user_id,
            session_id=turn.session_id,
            payload=payload,
        )

    def _since_start(self, moment: float | None) -> float | None:
        return None if moment is None else _milliseconds(moment - self._started)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
