"""Ask another provider when the first choice fails before its first word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing

from loguru import logger as log

from services.errors import ProviderError, ProviderRejected
from services.events import Batches, Retry, has_text
from services.providers import Provider
from services.providers.breaker import Breaker
from services.providers.retry import remaining, within
from services.turn import Prompt

# A timer may strike some milliseconds before its time, and nobody answers in so few.
_NO_TIME = 0.01


class Fallback:
    """A provider that asks *providers* in order until one answers.

    Each step to the next is reported as a `Retry` without delay. Once a word was yielded there is
    no next one, nor when *total_timeout*, which all of them share, is over. Each provider has a circuit
    breaker: after *failures* in a row turns pass it by, but for a probe every *cooldown* seconds.
    Durations are seconds.
    """

    def __init__(
        self,
        providers: Sequence[Provider],
        *,
        failures: int = 5,
        cooldown: float = 30.0,
        total_timeout: float = 600.0,
    ) -> None:
        self._choices = [
            (provider, Breaker(failures=failures, cooldown=cooldown)) for provider in providers
        ]
        self._total_timeout = total_timeout

    @property
    def breakers(self) -> Mapping[str, Breaker]:
        """The circuit breakers, by their provider's name."""
        return {provider.name: breaker for provider, breaker in self._choices}

    @property
    def name(self) -> str:
        """All names, in order; events carry the name of the one they come from."""
        return ",".join(provider.name for provider, _ in self._choices)

    async def stream(self, prompt: Prompt) -> Batches:
        """See `Provider.stream`. Raises the error of the provider that was asked last."""
        prompt = within(prompt, self._total_timeout)
        failure: ProviderError | None = None
        attempt = 0
        for provider, breaker in self._choices:
            # If every breaker is open the last provider is asked all the same: somebody has to answer.
            is_last_hope = failure is None and provider is self._choices[-1][0]
            if not breaker.admit() and not is_last_hope:
                continue
            if failure is not None:
                # The turn may end well, so nobody else would tell the operator (of a wrong key, say).
                log.warning(
                    "Provider passed over",
                    provider=failure.provider,
                    next=provider.name,
                    code=failure.code,
                    phase=failure.phase,
                    status=failure.status,
                    reason=str(failure),
                )
                yield (Retry(failure.provider, attempt, 0.0, failure.code),)
            attempt += 1
            spoken = False
            try:
                async with aclosing(provider.stream(prompt)) as batches:
                    async for batch in batches:
                        spoken = spoken or has_text(batch)
                        yield batch
            except ProviderError as error:
                if _is_its_fault(error) and breaker.failed():
                    log.warning("Provider breaker opened", provider=provider.name)
                # A provider's own total timeout may be the shorter one.
                if spoken or remaining(prompt) <= _NO_TIME:
                    raise
                failure = error
            else:
                if breaker.succeeded():
                    log.info("Provider breaker closed", provider=provider.name)
                return
        if failure is not None:
            raise failure


def _is_its_fault(error: ProviderError) -> bool:
    """Whether the next turn would probably fail likewise; a request it will not take says nothing."""
    return not isinstance(error, ProviderRejected) or error.status in (401, 402, 403, 404)
