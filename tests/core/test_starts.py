"""Starts: many answers at once begin a few at a time."""

from __future__ import annotations

import asyncio
from functools import partial

from services.starts import Starts


async def turns_of_the_loop(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_few_begin_at_once(loop):
    begun: list[int] = []
    starts = Starts(at_once=3)

    for number in range(3):
        starts.add(partial(begun.append, number))

    assert begun == [0, 1, 2]


async def test_more_begin_in_later_turns_and_in_order(loop):
    begun: list[int] = []
    starts = Starts(at_once=2)

    for number in range(7):
        starts.add(partial(begun.append, number))

    assert begun == [0, 1]
    counts = []
    for _ in range(4):
        await turns_of_the_loop(1)
        counts.append(len(begun))
    assert counts == [4, 6, 7, 7]
    assert begun == list(range(7))


async def test_who_comes_later_does_not_overtake(loop):
    begun: list[str] = []
    starts = Starts(at_once=1)
    for name in ("first", "second", "third"):
        starts.add(partial(begun.append, name))

    await turns_of_the_loop(1)
    starts.add(partial(begun.append, "late"))
    await turns_of_the_loop(5)

    assert begun == ["first", "second", "third", "late"]


async def test_after_a_burst_the_next_begins_at_once(loop):
    begun: list[int] = []
    starts = Starts(at_once=1)
    for number in range(3):
        starts.add(partial(begun.append, number))
    await turns_of_the_loop(5)

    starts.add(partial(begun.append, 3))

    assert begun == [0, 1, 2, 3]
