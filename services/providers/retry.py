"""Ask again when a provider fails before its first word."""

from __future__ import annotations

import asyncio
import math
import random
from contextlib import aclosing
from dataclasses import replace
from itertools import count

from services.errors import ProviderError
from services.events import Batches, Retry, has_text
from services.providers import Provider
from services.turn import Prompt

# Waits double from `base` and stop growing at 8 s for the usual base of half a second.
_LONGEST_WAIT = 16


class Retrying:
    """A provider that asks *provider* up to 1 + *max_retries* times, within *total_timeout* seconds.

    Every attempt that is followed by another is reported as a `Retry`. Once a word was yielded
    there is no further attempt: nobody can take a word back. The wait is what the server asked
    for, or `min(base·2^n, 16·base)`, shortened by up to a quarter so that callers spread; if it
    does not fit the time that is left the failure stands, with the server's wait in `retry_after`.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        max_retries: int = 2,
        base: float = 0.5,
        total_timeout: float = 600.0,
    ) -> None:
        self._provider = provider
        self._max_retries = max_retries
        self._base = base
        self._total_timeout = total_timeout

    @property
    def name(self) -> str:
        """The wrapped provider's name."""
        return self._provider.name

    async def stream(self, prompt: Prompt) -> Batches:
        """See `Provider.stream`; the total timeout becomes the prompt's deadline, unless that is sooner."""
        prompt = within(prompt, self._total_timeout)
        for attempt in count(1):
            spoken = False
            try:
                async with aclosing(self._provider.stream(prompt)) as batches:
                    async for batch in batches:
                        spoken = spoken or has_text(batch)
                        yield batch
            except ProviderError as error:
                if spoken or not error.retryable or attempt > self._max_retries:
                    raise
                delay = self._delay(error, attempt)
                if delay >= remaining(prompt):
                    raise
                retry = Retry(self.name, attempt, delay, error.code)
            else:
                return
            yield (retry,)
            await asyncio.sleep(retry.delay)

    def _delay(self, error: ProviderError, attempt: int) -> float:
        if error.retry_after is not None:
            return error.retry_after
        longest = self._base * min(1 << (attempt - 1), _LONGEST_WAIT)
        return longest * (1 - 0.25 * random.random())  # noqa: S311 - jitter, not a secret


def within(prompt: Prompt, seconds: float) -> Prompt:
    """*prompt* with a deadline *seconds* from now, or its own if that is sooner."""
    deadline = asyncio.get_running_loop().time() + min(seconds, remaining(prompt))
    return replace(prompt, deadline=deadline)


def remaining(prompt: Prompt) -> float:
    """Seconds until the deadline of *prompt*; infinite if it has none."""
    if prompt.deadline is None:
        return math.inf
    return prompt.deadline - asyncio.get_running_loop().time()
