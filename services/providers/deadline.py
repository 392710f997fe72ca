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
        self._task: asyncio.Task[object] | None = None
        self._interrupted = False
        self._cancelling = 0

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
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - generators are driven by tasks
        self._task = task
        self._cancelling = task.cancelling()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if self._interrupted and task is not None:
            self._interrupted = False
            ours_alone = task.uncancel() <= self._cancelling
            if ours_alone and kind is not None and issubclass(kind, asyncio.CancelledError):
                raise self._timeout() from exc

    def _expire(self) -> None:
        self._expired = True
        if self._task is not None:
            self._interrupted = True
            self._task.cancel()

    def _timeout(self) -> ProviderTimeout:
        return ProviderTimeout(
            self._provider, "took too long altogether", phase="total", retryable=False
        )
