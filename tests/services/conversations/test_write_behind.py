from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from loguru import logger

from services.errors import Unavailable
from services.storage.write_behind import Pace, WriteBehind

QUICK = Pace(linger=0.001, retry=0.001)


class Book:
    """Writes items down, unless it is away; refuses pages with a "bad" one."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.pages: list[list[str]] = []
        self.tried = asyncio.Semaphore(0)
        self.away = False
        self.open = asyncio.Event()
        self.open.set()
        self.begun = asyncio.Event()
        self.failed = asyncio.Event()

    async def write(self, items: Sequence[str]) -> None:
        self.tried.release()
        self.begun.set()
        await self.open.wait()
        if self.away:
            self.failed.set()
            raise Unavailable
        if "bad" in items:
            raise ValueError("bad")
        self.lines += items
        self.pages.append(list(items))


def behind_of(book: Book, pace: Pace = QUICK) -> WriteBehind[str]:
    return WriteBehind("Book", "Lines", book.write, pace)


@pytest.fixture
def log() -> Iterator[list[tuple[str, object]]]:
    """What was logged: phrases, and the number that was dropped."""
    lines: list[tuple[str, object]] = []
    handler = logger.add(
        lambda line: lines.append((line.record["message"], line.record["extra"].get("dropped")))
    )
    yield lines
    logger.remove(handler)


def _anything(item: str) -> bool:
    return True


async def test_items_are_written_in_order() -> None:
    book = Book()
    async with behind_of(book).writing() as behind:
        for item in ("a", "b", "c"):
            behind.put(item)

        await behind.written(_anything)

    assert book.lines == ["a", "b", "c"]
    assert (behind.depth, behind.dropped) == (0, 0)


async def test_items_wait_out_an_outage_in_order() -> None:
    book = Book()
    book.away = True
    async with behind_of(book).writing() as behind:
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
    async with behind_of(book, replace(QUICK, attempt=0.01)).writing() as behind:
        behind.put("a")
        await book.tried.acquire()
        await book.tried.acquire()

        book.open.set()
        await behind.written(_anything)

    assert book.lines == ["a"]


async def test_a_batch_too_large_for_one_attempt_gets_through_in_parts() -> None:
    """On a busy loop a hundred long answers took longer than an attempt may: each time anew, for ever."""
    pages: list[list[str]] = []

    async def write(items: Sequence[str]) -> None:
        if len(items) > 2:
            await asyncio.Event().wait()
        pages.append(list(items))

    behind = WriteBehind("Book", "Lines", write, replace(QUICK, attempt=0.01))
    async with behind.writing():
        for item in "abcdefgh":
            behind.put(item)

        await behind.written(_anything)

    assert "".join(item for page in pages for item in page) == "abcdefgh"
    assert pages[0] == ["a", "b"]
    assert behind.dropped == 0


async def test_an_item_that_is_refused_does_not_hold_up_the_next() -> None:
    book = Book()
    async with behind_of(book).writing() as behind:
        behind.put("bad")
        behind.put("good")
        await behind.written(_anything)

    assert book.lines == ["good"]
    assert behind.dropped == 1


async def test_what_is_beyond_the_capacity_is_dropped_and_counted() -> None:
    book = Book()
    book.open.clear()
    async with behind_of(book, replace(QUICK, capacity=2)).writing() as behind:
        for item in ("a", "b", "c"):
            behind.put(item)

        assert (behind.depth, behind.dropped) == (2, 1)
        book.open.set()

    assert book.lines == ["a", "b"]


async def test_what_is_left_is_written_at_the_end() -> None:
    book = Book()
    async with behind_of(book).writing() as behind:
        behind.put("a")

    assert book.lines == ["a"]


async def test_the_end_does_not_wait_for_an_outage() -> None:
    book = Book()
    book.away = True
    async with behind_of(book, replace(QUICK, close=0.02)).writing() as behind:
        behind.put("a")

    assert (behind.depth, behind.dropped) == (0, 1)


async def test_after_the_end_nothing_is_taken() -> None:
    book = Book()
    async with behind_of(book).writing() as behind:
        pass

    behind.put("a")

    assert (behind.depth, behind.dropped) == (0, 1)


async def test_discarded_items_are_not_written() -> None:
    book = Book()
    book.away = True
    async with behind_of(book).writing() as behind:
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
    async with behind_of(book).writing() as behind:
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


async def test_items_that_come_close_together_are_written_together() -> None:
    book = Book()
    async with behind_of(book, Pace(linger=0.05)).writing() as behind:
        behind.put("a")
        await asyncio.sleep(0)
        behind.put("b")
        await book.begun.wait()

    assert book.pages == [["a", "b"]]


async def test_what_comes_during_a_write_lingers_for_others_too() -> None:
    """Under load there is always a write under way; each item would get a write of its own."""
    book = Book()
    book.open.clear()
    async with behind_of(book, Pace(linger=0.05)).writing() as behind:
        behind.put("a")
        await book.begun.wait()
        behind.put("b")
        book.open.set()
        await asyncio.sleep(0.01)
        behind.put("c")

    assert book.pages == [["a"], ["b", "c"]]


async def test_nobody_lingers_when_somebody_waits() -> None:
    book = Book()
    async with behind_of(book, Pace(linger=60)).writing() as behind:
        behind.put("a")
        async with asyncio.timeout(30):
            await behind.written(_anything)

        behind.put("b")
        await asyncio.sleep(0.01)
        assert book.lines == ["a"]
        async with asyncio.timeout(30):
            await behind.written(_anything)

    assert book.lines == ["a", "b"]


async def test_nobody_lingers_when_a_batch_is_full() -> None:
    book = Book()
    async with behind_of(book, Pace(linger=60, batch=2)).writing() as behind:
        for item in ("a", "b", "c"):
            behind.put(item)
        await book.begun.wait()
        await asyncio.sleep(0)

        assert book.pages == [["a", "b"]]

    assert book.pages == [["a", "b"], ["c"]]


async def test_the_end_does_not_linger() -> None:
    book = Book()
    started = time.monotonic()
    async with behind_of(book, Pace(linger=60)).writing() as behind:
        behind.put("a")

    assert time.monotonic() - started < 30
    assert book.lines == ["a"]


async def test_a_bad_item_takes_none_of_its_batch_with_it(log: list[tuple[str, object]]) -> None:
    items = [f"{number:03}" for number in range(100)]
    for place in (0, 37, 99):
        book = Book()
        async with behind_of(book).writing() as behind:
            for item in (*items[:place], "bad", *items[place:]):
                behind.put(item)

        assert book.lines == items
        assert behind.dropped == 1
        assert len(book.pages) <= 10

    assert log == [("Lines dropped", 1)] * 3


async def test_an_outage_is_logged_once_and_so_is_its_end(log: list[tuple[str, object]]) -> None:
    book = Book()
    book.away = True
    async with behind_of(book).writing() as behind:
        behind.put("a")
        for _ in range(3):
            await book.tried.acquire()
        book.away = False

    assert [phrase for phrase, _ in log] == ["Book unavailable", "Book available again"]


async def test_those_who_wait_are_told_when_the_rest_is_given_up() -> None:
    book = Book()
    book.away = True
    async with behind_of(book, replace(QUICK, close=0.02)).writing() as behind:
        behind.put("a")
        waiting = asyncio.create_task(behind.written(_anything))
        await book.failed.wait()

    async with asyncio.timeout(30):
        await waiting
    assert behind.dropped == 1


async def test_items_of_different_sizes_are_weighed() -> None:
    """A thousand answers can be a thousand bytes or all of the memory."""
    book = Book()
    book.open.clear()
    pace = replace(QUICK, capacity=10, batch=4)
    behind = WriteBehind("Book", "Lines", book.write, pace, weigh=len)
    async with behind.writing():
        for item in ("aaa", "b", "c", "ddd", "eeeeee", "f"):
            behind.put(item)

        assert (behind.depth, behind.dropped) == (5, 1)
        book.open.set()

    assert book.pages == [["aaa", "b"], ["c", "ddd"], ["eeeeee"]]


async def test_what_is_still_to_be_written_can_be_found() -> None:
    book = Book()
    book.away = True
    async with behind_of(book).writing() as behind:
        for item in ("a1", "b1", "a2"):
            behind.put(item)
        await book.failed.wait()

        assert behind.last(lambda item: item.startswith("a")) == "a2"
        assert behind.last(lambda item: item.startswith("c")) is None
        book.away = False
        await behind.written(_anything)
        assert behind.last(_anything) is None
