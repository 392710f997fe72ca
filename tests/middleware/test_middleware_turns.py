"""Plug-ins say whether an answer may start, and learn of its end: `on_turn`."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from middleware import admission
from middleware.load import plugin
from services.errors import RateLimited
from services.report import Report
from services.turn import Turn

TURN = Turn("req_1", "alice", "Hello")
REQUEST = SimpleNamespace()
REPORT: Any = object()


@pytest.fixture(autouse=True)
def _in_a_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Every test here may be a coroutine."""


class Clerk:
    """Notes in *diary* who came and how it ended."""

    def __init__(self, name: str, diary: list[Any]) -> None:
        self.name = name
        self.diary = diary

    async def on_turn(self, request: Any, turn: Turn) -> Any:
        self.diary.append((self.name, request, turn))
        return self.ended

    def ended(self, report: Report | None) -> None:
        self.diary.append((self.name, report))


class Indifferent(Clerk):
    async def on_turn(self, request: Any, turn: Turn) -> None:
        self.diary.append((self.name, request, turn))


class Refuses(Clerk):
    async def on_turn(self, request: Any, turn: Turn) -> None:
        raise RateLimited


class Ponders(Clerk):
    async def on_turn(self, request: Any, turn: Turn) -> None:
        await asyncio.Event().wait()


class Clumsy(Clerk):
    def ended(self, report: Report | None) -> None:
        raise LookupError("ended")


def admit_of(*clerks: Clerk):
    return admission([plugin(clerk.name, clerk) for clerk in clerks])


async def test_plugins_are_asked_down_the_list_and_told_of_the_end_up_the_list():
    diary: list[Any] = []
    admit = admit_of(Clerk("a", diary), Indifferent("b", diary), Clerk("c", diary))

    release = await admit(REQUEST, TURN)
    asked = list(diary)
    release(REPORT)

    assert asked == [("a", REQUEST, TURN), ("b", REQUEST, TURN), ("c", REQUEST, TURN)]
    assert diary[3:] == [("c", REPORT), ("a", REPORT)]


async def test_a_refusal_asks_nobody_further_and_takes_back_what_was_given():
    diary: list[Any] = []
    admit = admit_of(Clerk("a", diary), Refuses("b", diary), Clerk("c", diary))

    with pytest.raises(RateLimited):
        await admit(REQUEST, TURN)

    assert diary == [("a", REQUEST, TURN), ("a", None)]


async def test_a_client_that_leaves_while_it_is_asked_gives_back_what_was_given():
    diary: list[Any] = []
    asking = asyncio.ensure_future(admit_of(Clerk("a", diary), Ponders("b", diary))(REQUEST, TURN))
    await asyncio.sleep(0)

    asking.cancel()
    await asyncio.wait([asking])

    assert diary == [("a", REQUEST, TURN), ("a", None)]


async def test_a_plugin_that_fails_at_the_end_keeps_it_from_nobody():
    diary: list[Any] = []
    release = await admit_of(Clerk("a", diary), Clumsy("b", diary))(REQUEST, TURN)

    release(REPORT)
    release(REPORT)

    assert diary[-1] == ("a", REPORT)
    assert diary.count(("a", REPORT)) == 1


async def test_without_hooks_everybody_is_admitted():
    release = await admit_of()(REQUEST, TURN)

    release(None)
