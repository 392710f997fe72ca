"""Starts: in a burst, answers begin when no more connections come."""

from __future__ import annotations

import asyncio
import gc
from contextvars import ContextVar
from functools import partial
from itertools import pairwise

from services.streaming.starts import Starts

whose: ContextVar[int] = ContextVar("whose")


async def turns_of_the_loop(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_lone_answer_begins_at_once(loop):
    begun: list[int] = []
    starts = Starts()

    for number in range(3):
        starts.add(partial(begun.append, number))
        assert begun == list(range(number + 1))
        await turns_of_the_loop(3)


async def test_a_burst_waits_until_no_more_come(loop):
    """Each of them costs as much as the first bytes of several who still wait for theirs."""
    begun: list[int] = []
    starts = Starts(at_once=2, patience=30)

    for number in range(7):
        starts.add(partial(begun.append, number))
        await turns_of_the_loop(1)

    assert begun == [0]
    counts = []
    for _ in range(5):
        await turns_of_the_loop(1)
        counts.append(len(begun))
    assert counts == sorted(counts)
    assert {later - earlier for earlier, later in pairwise(counts)} <= {0, 2}
    assert begun == list(range(7))


async def test_an_endless_burst_does_not_keep_anybody_waiting(loop):
    begun: list[int] = []
    starts = Starts(patience=0)

    for number in range(20):
        starts.add(partial(begun.append, number))
        await turns_of_the_loop(1)

    assert len(begun) >= 10
    assert begun == sorted(begun)


async def test_no_garbage_is_collected_until_a_burst_is_over(loop):
    starts = Starts()

    for _ in range(5):
        starts.add(bool)
        assert not gc.isenabled()
        await turns_of_the_loop(1)
    await turns_of_the_loop(5)

    assert gc.isenabled()


async def test_an_endless_burst_does_not_keep_garbage_for_ever(loop):
    starts = Starts(patience=0)

    for _ in range(5):
        starts.add(bool)
        await turns_of_the_loop(1)

    assert gc.isenabled()


async def test_after_a_burst_the_next_begins_at_once(loop):
    begun: list[int] = []
    starts = Starts()
    for number in range(10):
        starts.add(partial(begun.append, number))
    await turns_of_the_loop(10)
    assert begun == list(range(10))

    starts.add(partial(begun.append, 10))

    assert begun == list(range(11))


async def test_each_answer_of_a_burst_begins_in_the_context_of_its_own_request(loop):
    """Its log lines carry the request id that they find there."""
    begun: list[int] = []
    starts = Starts()

    async def request(number: int) -> None:
        whose.set(number)
        starts.add(lambda: begun.append(whose.get()))

    await asyncio.gather(*map(request, range(10)))
    await turns_of_the_loop(10)

    assert begun == list(range(10))
