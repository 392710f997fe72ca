from __future__ import annotations

import asyncio

from services.errors import Unavailable
from services.write_behind import WriteBehind


class Book:
    """Writes items down, unless it is away; refuses "bad" ones."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tried = asyncio.Semaphore(0)
        self.away = False
        self.open = asyncio.Event()
        self.open.set()
        self.begun = asyncio.Event()
        self.failed = asyncio.Event()

    async def write(self, item: str) -> None:
        self.tried.release()
        self.begun.set()
        await self.open.wait()
        if self.away:
            self.failed.set()
            raise Unavailable
        if item == "bad":
            raise ValueError(item)
        self.lines.append(item)


def _anything(item: str) -> bool:
    return True


async def test_items_are_written_in_order() -> None:
    book = Book()
    async with WriteBehind("book", book.write).writing() as behind:
        for item in ("a", "b", "c"):
            behind.put(item)

        await behind.written(_anything)

    assert book.lines == ["a", "b", "c"]
    assert (behind.depth, behind.dropped) == (0, 0)


async def test_items_wait_out_an_outage_in_order() -> None:
    book = Book()
    book.away = True
    async with WriteBehind("book", book.write, retry=0.001).writing() as behind:
        behind.put("a")
        behind.put("b")
        await book.failed.wait()
        assert behind.depth == 2

        book.away = False
        await behind.written(_anything)

    assert book.lines == ["a", "b"]


async def test_an_attempt_that_hangs_is_tried_again() -> None:
    book = Book()
    book.open.clear()
    async with WriteBehind("book", book.write, attempt=0.01, retry=0.001).writing() as behind:
        behind.put("a")
        await book.tried.acquire()
        await book.tried.acquire()

        book.open.set()
        await behind.written(_anything)

    assert book.lines == ["a"]


async def test_an_item_that_is_refused_does_not_hold_up_the_next() -> None:
    book = Book()
    async with WriteBehind("book", book.write).writing() as behind:
        behind.put("bad")
        behind.put("good")
        await behind.written(_anything)

    assert book.lines == ["good"]
    assert behind.dropped == 1


async def test_what_is_beyond_the_capacity_is_dropped_and_counted() -> None:
    book = Book()
    book.open.clear()
    async with WriteBehind("book", book.write, capacity=2).writing() as behind:
        for item in ("a", "b", "c"):
            behind.put(item)

        assert (behind.depth, behind.dropped) == (2, 1)
        book.open.set()

    assert book.lines == ["a", "b"]


async def test_what_is_left_is_written_at_the_end() -> None:
    book = Book()
    async with WriteBehind("book", book.write).writing() as behind:
        behind.put("a")

    assert book.lines == ["a"]


async def test_the_end_does_not_wait_for_an_outage() -> None:
    book = Book()
    book.away = True
    async with WriteBehind("book", book.write, retry=0.001, close=0.02).writing() as behind:
        behind.put("a")

    assert (behind.depth, behind.dropped) == (1, 1)


async def test_after_the_end_nothing_is_taken() -> None:
    book = Book()
    async with WriteBehind("book", book.write).writing() as behind:
        pass

    behind.put("a")

    assert (behind.depth, behind.dropped) == (0, 1)


async def test_discarded_items_are_not_written() -> None:
    book = Book()
    book.away = True
    async with WriteBehind("book", book.write, retry=0.001).writing() as behind:
        for item in ("a1", "b1", "a2"):
            behind.put(item)
        await book.failed.wait()

        await behind.discard(lambda item: item.startswith("a"))
        book.away = False

    assert book.lines == ["b1"]


async def test_discarding_waits_for_the_attempt_that_runs() -> None:
    """Otherwise what is erased next could still be written after it."""
    book = Book()
    book.open.clear()
    async with WriteBehind("book", book.write).writing() as behind:
        behind.put("a")
        await book.begun.wait()

        discarding = asyncio.create_task(behind.discard(_anything))
        await asyncio.sleep(0)
        assert not discarding.done()

        book.open.set()
        await discarding
        assert book.lines == ["a"]
        behind.put("b")

    assert book.lines == ["a", "b"]
