"""Long computations let others have their turns."""

from __future__ import annotations

import asyncio
from time import perf_counter

import pytest

from services.steps import HURRY, Steps, at_once, in_turns, portions


def _counting(to: int, *, each: float = 0.0) -> Steps[list[int]]:
    """Takes *each* seconds for every number."""
    counted = []
    for number in range(to):
        until = perf_counter() + each
        while perf_counter() < until:
            pass
        counted.append(number)
        yield
    return counted


def _failing() -> Steps[None]:
    yield
    raise ValueError("no")


async def test_others_run_between_long_steps() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(other())
    counted = await in_turns(_counting(10, each=0.001))
    running.cancel()

    assert counted == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert turns >= 10


async def test_on_a_busy_loop_there_are_steps_in_every_round() -> None:
    """Once in three or four, a hundred long answers were never counted in the time there was."""
    rounds = 0

    async def busy() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            until = perf_counter() + 0.002
            while perf_counter() < until:
                pass
            await asyncio.sleep(0)

    running = asyncio.create_task(busy())
    await in_turns(_counting(10, each=0.001))
    running.cancel()

    assert rounds <= 12


async def test_in_a_hurry_steps_make_no_pause() -> None:
    """At a stop nobody else has anything to do, and what is not written in time is lost."""
    hurry = asyncio.Event()
    HURRY.set(hurry)
    hurry.set()
    since = perf_counter()

    await in_turns(_counting(100, each=0.0006))

    assert perf_counter() - since < 0.120


async def test_what_goes_wrong_in_a_step_is_raised() -> None:
    with pytest.raises(ValueError, match="no"):
        await in_turns(_failing())
    with pytest.raises(ValueError, match="no"):
        at_once(_failing())


async def test_steps_can_be_cancelled_between_two() -> None:
    running = asyncio.create_task(in_turns(_counting(1_000_000, each=0.001)))
    await asyncio.sleep(0)

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running


def test_at_once_gives_what_in_turns_does() -> None:
    assert at_once(_counting(3)) == [0, 1, 2]


def test_portions_are_all_there_is() -> None:
    assert list(portions(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(portions((), 2)) == []
