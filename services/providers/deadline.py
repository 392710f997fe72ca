"""A moment after which waiting ends, for generators that must not be interrupted between two waits."""

from __future__ import annotations

import asyncio
from types import TracebackType

from services.errors import ProviderTimeout


class Deadline:
    """Ends the waits done under `with deadline:` when *seconds* have passed, by `ProviderTimeout("total")`.

    `asyncio.timeout` cannot span a `yield`: while the generator is suspended it would cancel
    whoever consumes it. This one acts inside its `with` blocks only, is entered once per batch at
    a fraction of the price of a timer each, and is due at entering one if time ran out in between.
    """

    def __init__(self, provider: str, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._provider = provider
        self._now = loop.time
        self._at = loop.time() + seconds
        self._timer = loop.call_at(self._at, self._expire)
        self._expired = False
        self._waiting: asyncio.Task[object] | None = None
        self._interrupted = False

    @property
    def remaining(self) -> float:
        """Seconds left, negative when it is over."""
        return self._at - self._now()

    def close(self) -> None:
        """Forget about it."""
        self._timer.cancel()

    def __enter__(self) -> None:
        if self._expired:
            raise self._timeout()
        self._waiting = asyncio.current_task()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._waiting = self._waiting, None
        if self._interrupted and task is not None:
            self._interrupted = False
            # If somebody else cancelled the task meanwhile, it is theirs.
            if task.uncancel() == 0 and isinstance(exc, asyncio.CancelledError):
                raise self._timeout() from exc

    def _expire(self) -> None:
        self._expired = True
        if self._waiting is not None and not self._waiting.cancelling():
            self._interrupted = True
            self._waiting.cancel()

    def _timeout(self) -> ProviderTimeout:
        return ProviderTimeout(
            self._provider, "took too long altogether", phase="total", retryable=False
        )
