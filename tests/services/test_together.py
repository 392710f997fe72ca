"""What is entered together is left at one time, whatever happens."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from patience import PATIENCE

from services.together import Together


class Pair:
    """Two context managers, each of which can't end before the other begins to."""

    def __init__(self) -> None:
        self.left: list[str] = []
        self._begun = {"a": asyncio.Event(), "b": asyncio.Event()}

    @asynccontextmanager
    async def member(self, name: str, other: str, *, fails: bool = False):
        yield name
        self._begun[name].set()
        await self._begun[other].wait()
        self.left.append(name)
        if fails:
            raise RuntimeError(name)


async def within(
    pair: Pair, raised: Exception | None = None, *, a_fails: bool = False
) -> list[str]:
    """What entering both gives, once both were left; the block between raises *raised*."""
    async with asyncio.timeout(PATIENCE), Together() as together:
        entered = [
            await together.enter(pair.member("a", "b", fails=a_fails)),
            await together.enter(pair.member("b", "a")),
        ]
        if raised:
            raise raised
    return entered


async def test_none_waits_for_another(loop):
    pair = Pair()

    entered = await within(pair)

    assert entered == ["a", "b"]
    assert sorted(pair.left) == ["a", "b"]


async def test_what_one_raises_comes_out_when_all_have_ended(loop):
    pair = Pair()

    with pytest.raises(RuntimeError, match="a"):
        await within(pair, a_fails=True)

    assert sorted(pair.left) == ["a", "b"]


async def test_what_the_block_raises_comes_out_after_all_were_left(loop):
    pair = Pair()

    with pytest.raises(KeyError):
        await within(pair, KeyError())

    assert sorted(pair.left) == ["a", "b"]
