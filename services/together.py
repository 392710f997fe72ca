"""Context managers that are entered one by one and left all at once."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


class Together:
    """At the end of the block all that were entered are left, and none waits for another.

    For those that need some time to end and nothing from each other. They are not told what the block
    raised. What one of them raises comes out when all have ended.
    """

    def __init__(self) -> None:
        self._entered: list[AbstractAsyncContextManager[Any]] = []

    async def enter(self, context: AbstractAsyncContextManager[T]) -> T:
        """Enter *context* now; it is left with the others."""
        value = await context.__aenter__()
        self._entered.append(context)
        return value

    async def __aenter__(self) -> Together:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave them."""
        leaving = [context.__aexit__(None, None, None) for context in self._entered]
        outcomes = await asyncio.gather(*leaving, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
