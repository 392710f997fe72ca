"""Leave a provider alone while it keeps failing."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic


class Breaker:
    """Opens after *failures* in a row, and then admits one turn per *cooldown* seconds as a probe.

    A probe that succeeds closes it again. A probe nobody waits for to the end changes nothing:
    the next one comes a cooldown later.
    """

    def __init__(
        self,
        *,
        failures: int = 5,
        cooldown: float = 30.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._limit = failures
        self._cooldown = cooldown
        self._clock = clock
        self._failures = 0
        self._probe_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether turns are kept away."""
        return self._failures >= self._limit

    def admit(self) -> bool:
        """Whether this turn may ask the provider."""
        if not self.is_open:
            return True
        now = self._clock()
        if now < self._probe_at:
            return False
        self._probe_at = now + self._cooldown
        return True

    def succeeded(self) -> bool:
        """Note a complete answer. Tells whether that closed it."""
        was_open, self._failures = self.is_open, 0
        return was_open

    def failed(self) -> bool:
        """Note a failure that was the provider's fault. Tells whether that opened it."""
        self._failures += 1
        self._probe_at = self._clock() + self._cooldown
        return self._failures == self._limit
