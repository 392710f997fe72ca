"""Long computations in steps, between which others get their turns on the event loop."""

from __future__ import annotations

from asyncio import Event, sleep
from collections.abc import Generator, Iterable, Iterator
from contextvars import ContextVar
from itertools import islice
from time import perf_counter
from typing import Final, Generic, TypeAlias, TypeVar

T = TypeVar("T")

# A function that yields wherever it may be interrupted, and returns a T.
Steps: TypeAlias = Generator[None, None, T]

# So long, in seconds, others wait for steps, and so long steps wait for others: who answers a question
# goes through the loop a dozen times, and would wait at each for those that only let the next one go.
_SLICE: Final = 0.0005
_PAUSE: Final = 0.001

# Set when steps must be done soon and others can wait, as at a stop. A context variable, because those
# who take steps are called through protocols that know nothing of them.
HURRY: ContextVar[Event | None] = ContextVar("HURRY", default=None)


async def in_turns(steps: Steps[T]) -> T:
    """What *steps* return; others run between those."""
    run = _Run(steps)
    since = perf_counter()
    for _ in run:
        if perf_counter() - since > _SLICE:
            await _let_others()
            since = perf_counter()
    return run.result


def at_once(steps: Steps[T]) -> T:
    """What *steps* return, while everybody waits."""
    run = _Run(steps)
    for _ in run:
        pass
    return run.result


def portions(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """*items* in lists of *size*, the last of which may have fewer."""
    left = iter(items)
    while portion := list(islice(left, size)):
        yield portion


class _Run(Generic[T]):
    """Steps to go through, and then their result."""

    result: T

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps

    def __iter__(self) -> Iterator[None]:
        self.result = yield from self._steps


async def _let_others() -> None:
    """Pause. On a busy loop one round is pause enough; a timer's end is noticed two rounds later."""
    since = perf_counter()
    await sleep(0)
    if (hurry := HURRY.get()) and hurry.is_set():
        return
    if (left := _PAUSE - (perf_counter() - since)) > 0:
        await sleep(left)
