"""The gate that takes an `asyncio.Event`'s place in Sanic's protocol."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest

from blueprints.gate import Gate

Kind = Callable[[], asyncio.Event | Gate]
kinds = pytest.mark.parametrize("kind", [asyncio.Event, Gate])


@kinds
async def test_everybody_who_waits_is_let_through(kind: Kind):
    gate = kind()
    waiting = [asyncio.create_task(gate.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)

    gate.set()

    async with asyncio.timeout(30):
        assert await asyncio.gather(*waiting) == [True, True, True]
    assert gate.is_set()


@kinds
async def test_closing_it_at_once_does_not_hold_back_who_was_let_through(kind: Kind):
    gate = kind()
    waiting = asyncio.create_task(gate.wait())
    await asyncio.sleep(0)

    gate.set()
    gate.clear()

    async with asyncio.timeout(30):
        assert await waiting is True
    assert not gate.is_set()
    late = asyncio.create_task(gate.wait())
    await asyncio.sleep(0)
    assert not late.done()
    late.cancel()


@kinds
async def test_who_gives_up_takes_nobody_along(kind: Kind):
    """One future for all would be cancelled with its first waiter."""
    gate = kind()
    gone, staying = (asyncio.create_task(gate.wait()) for _ in range(2))
    await asyncio.sleep(0)

    gone.cancel()
    await asyncio.wait([gone], timeout=30)
    assert not staying.done()
    gate.set()

    async with asyncio.timeout(30):
        assert await staying is True
    assert gone.cancelled()


@kinds
async def test_an_open_one_is_passed_at_once(kind: Kind):
    gate = kind()
    gate.set()

    with pytest.raises(StopIteration):
        gate.wait().send(None)


async def test_it_weighs_next_to_nothing():
    assert sys.getsizeof(Gate()) < 100
