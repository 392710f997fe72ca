from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from time import perf_counter, thread_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from said import MAY, turn

from services.memory import Passage
from services.memory.packing import pack
from services.memory.quoting import CLOSING, OPENING
from services.memory.recall import Recall, RecallPolicy
from services.turn import Message, Turn


def _words(text: str) -> int:
    return len(text.split())


def _passage(text: str, relevance: float = 0.9, **changes: Any) -> Passage:
    return replace(Passage(text, "user", "session-0", MAY, relevance), **changes)


class Found:
    """A memory that finds what it is told, and notes what it was asked."""

    def __init__(self, *passages: Passage) -> None:
        self.passages = passages
        self.asked: list[tuple[str, str, int, str | None]] = []

    async def search(
        self, user_id: str, query: str, *, limit: int, session_id: str | None = None
    ) -> Sequence[Passage]:
        self.asked.append((user_id, query, limit, session_id))
        return self.passages[:limit]

    async def add(self, turn: Turn, answer: str) -> None:
        raise AssertionError("nobody asks for this here")

    async def forget(self, user_id: str, session_id: str | None = None) -> None:
        raise AssertionError("nobody asks for this here")


class Slow(Found):
    """A memory that does not come back, and takes its time even to be cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def search(
        self, user_id: str, query: str, *, limit: int, session_id: str | None = None
    ) -> Sequence[Passage]:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
            await self.release.wait()
        return ()


class Broken(Found):
    async def search(
        self, user_id: str, query: str, *, limit: int, session_id: str | None = None
    ) -> Sequence[Passage]:
        raise KeyError("a bug of a plug-in")


def _recall(memory: Found, **policy: Any) -> Recall:
    return Recall(memory, RecallPolicy(**policy), count=_words)


def _lines(text: str) -> list[str]:
    return text.removeprefix(OPENING).removesuffix(CLOSING).splitlines()


async def test_what_is_relevant_goes_into_the_prompt() -> None:
    memory = Found(_passage("My dog is called Biscuit", 0.9), _passage("I like rice", 0.69))

    recollection = await _recall(memory).recall(turn("my dog?", session="session-9"))

    assert _lines(recollection.text) == ['2026-05-08 user: "My dog is called Biscuit"']
    assert memory.asked == [("alice", "my dog?", 30, "session-9")]
    event = recollection.event
    assert (event.passages, event.tokens, event.degraded) == (1, _words(recollection.text), False)


async def test_a_higher_threshold_keeps_less() -> None:
    memory = Found(*(_passage(f"number {n}", n / 10) for n in range(10, 0, -1)))

    kept = {
        threshold: (await _recall(memory, min_relevance_score=threshold).recall(turn("n"))).event
        for threshold in (0.0, 0.7, 0.8)
    }

    assert {threshold: event.passages for threshold, event in kept.items()} == {
        0.0: 10,
        0.7: 4,
        0.8: 3,
    }


async def test_no_more_than_top_k_passages_are_kept() -> None:
    memory = Found(*(_passage(f"number {n}") for n in range(10)))

    assert (await _recall(memory, top_k=5).recall(turn("n"))).event.passages == 5


async def test_what_is_in_the_prompt_already_takes_nobodys_place() -> None:
    memory = Found(_passage("in the prompt"), _passage("the question"), _passage("news"))

    recollection = await _recall(memory, top_k=1).recall(
        turn("the question"), [Message("user", "in the prompt"), Message("assistant", "ok")]
    )

    assert _lines(recollection.text) == ['2026-05-08 user: "news"']


async def test_lines_are_dated_and_the_oldest_comes_first() -> None:
    memory = Found(
        _passage("later", said_at=MAY + timedelta(days=2)),
        _passage("answered", role="assistant"),
        _passage("asked"),
    )

    recollection = await _recall(memory).recall(turn("n"))

    assert _lines(recollection.text) == [
        '2026-05-08 user: "asked"',
        '2026-05-08 assistant: "answered"',
        '2026-05-10 user: "later"',
    ]


async def test_neighbours_fill_what_is_left_of_the_budget() -> None:
    near, far = _passage("near it", role="assistant"), _passage("far from it")
    hit = _passage("the hit", around=(near, far))
    budget = _words(OPENING + CLOSING) + 8

    both = await _recall(Found(hit)).recall(turn("hit"))
    one = await _recall(Found(hit), token_budget=budget).recall(turn("hit"))

    assert len(_lines(both.text)) == 3
    assert _lines(one.text) == ['2026-05-08 user: "the hit"', '2026-05-08 assistant: "near it"']
    assert (both.event.passages, one.event.passages) == (1, 1)


async def test_a_passage_that_does_not_fit_makes_way_for_one_that_does() -> None:
    memory = Found(_passage("word " * 100), _passage("short"))
    budget = _words(OPENING + CLOSING) + 5

    recollection = await _recall(memory, token_budget=budget).recall(turn("n"))

    assert _lines(recollection.text) == ['2026-05-08 user: "short"']


async def test_a_budget_of_nothing_recalls_nothing() -> None:
    recollection = await _recall(Found(_passage("short")), token_budget=0).recall(turn("n"))

    assert recollection.text == ""
    assert recollection.event.tokens == 0


async def test_a_slow_memory_costs_its_deadline_and_no_more() -> None:
    memory = Slow()
    recall = _recall(memory, timeout=0.01)

    recollection = await recall.recall(turn("n"))

    assert (recollection.text, recollection.event.degraded) == ("", True)
    await memory.cancelled.wait()
    memory.release.set()
    await recall.close()


async def test_a_turn_that_is_stopped_stops_its_search() -> None:
    memory = Slow()
    recall = _recall(memory, timeout=60)
    asking = asyncio.create_task(recall.recall(turn("n")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking
    await memory.cancelled.wait()
    memory.release.set()
    await recall.close()


async def test_a_broken_memory_costs_nothing(log_lines: list[Any]) -> None:
    recollection = await _recall(Broken()).recall(turn("n"))

    assert (recollection.text, recollection.event.degraded) == ("", True)
    assert ("WARNING", "Memory search failed") in [line[:2] for line in log_lines]


async def test_the_log_says_what_the_guide_shows(log_lines: list[Any]) -> None:
    await _recall(Found(_passage("short"))).recall(turn("n", request="req_77"))

    [began, ended] = log_lines
    assert began == ("INFO", "Retrieving memory context", {"request_id": "req_77"})
    assert ended[1] == "Memory retrieval completed"
    fields = ended[2]
    assert fields["memory_ms"] >= 0
    assert (fields["request_id"], fields["results_count"]) == ("req_77", 1)
    assert fields["total_tokens"] > 0


async def test_the_search_goes_on_while_something_else_is_done() -> None:
    """The history is read meanwhile, and what is in it is left out all the same."""
    memory = Found(_passage("in the prompt"), _passage("news"))

    async with _recall(memory).searching(turn("n")) as search:
        await asyncio.sleep(0)
        searched = list(memory.asked)
        recollection = await search.recollect([Message("user", "in the prompt")])

    assert searched == memory.asked != []
    assert _lines(recollection.text) == ['2026-05-08 user: "news"']


async def test_the_deadline_counts_from_the_beginning_of_the_search() -> None:
    """Whoever has waited for something else meanwhile does not wait once more."""
    memory = Slow()
    recall = _recall(memory, timeout=0.5)

    async with recall.searching(turn("n")) as search:
        await asyncio.sleep(0.5)
        began = perf_counter()
        recollection = await search.recollect(())
        waited = perf_counter() - began

    assert recollection.event.degraded
    assert waited < 0.5
    memory.release.set()
    await recall.close()


@pytest.mark.parametrize("length", [4_000, 60_000])
async def test_long_texts_hold_up_nobody_for_long(length: int) -> None:
    """Clipping all fifty texts at once took 85 ms with 4,000 characters each, 416 with 60,000."""
    sentence = "The gardener watered forty tulips beside the old brick wall this morning. "
    texts = [f"{n}. {sentence * (length // len(sentence))}" for n in range(50)]
    near = iter(_passage(text, said_at=MAY + timedelta(hours=1)) for text in texts[10:])
    found = [_passage(text, around=tuple(islice(near, 4))) for text in texts[:10]]
    spent, slices = thread_time(), []

    async def others() -> None:
        nonlocal spent
        while True:
            slices.append(thread_time() - spent)
            spent = thread_time()
            await asyncio.sleep(0)

    streams = asyncio.create_task(others())
    recollection = await _recall(Found(*found)).recall(turn("How many tulips did she water?"))
    await asyncio.sleep(0)
    streams.cancel()

    assert recollection.event.passages == 10
    assert max(slices) < 0.025
    assert sum(slices) < 0.2


passages = st.lists(
    st.builds(_passage, st.text(min_size=1, max_size=300), around=st.just(())), max_size=8
)


@given(passages, passages, st.integers(0, 200), st.integers(1, 3))
def test_the_budget_is_never_exceeded(
    found: list[Passage], near: list[Passage], budget: int, sentences: int
) -> None:
    results = [replace(passage, around=tuple(near)) for passage in found]

    def count(text: str) -> int:
        return -(-len(text.encode("utf-8", "replace")) // 4)

    text, packed = asyncio.run(
        pack(results, "anything", known=(), sentences=sentences, budget=budget, count=count)
    )

    assert count(text) <= budget
    assert packed <= len(results)


async def test_the_sentence_about_the_topic_is_kept_not_the_one_with_the_same_small_words() -> None:
    small = "What is it that you do when it is all of the time what it was in my life."
    topic = "Biscuit hides under beds whenever thunder rolls above our neighbourhood at night."

    recollection = await _recall(Found(_passage(f"{small} {topic}")), clip_sentences=1).recall(
        turn("What is it that my Biscuit does when it thunders?")
    )

    assert _lines(recollection.text) == [f'2026-05-08 user: "{topic}"']
