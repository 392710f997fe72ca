"""Recall: what of a user's memory goes into a prompt, whichever memory it comes from.

The search races a deadline, and what it finds is filtered by relevance, clipped to the sentences
that matter and packed into a budget of tokens. A slow or broken memory costs the user nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Final, Protocol

from loguru import logger

from services.events import Recalled
from services.memory import Passage
from services.memory.packing import pack
from services.turn import Message, Turn

_CLOSE_TIMEOUT: Final = 1.0
# Passages asked for beyond those that are wanted, as long as nobody knows which are in the prompt
# already. A history holds more messages if they are short, but seldom more that bear on a question.
_SPARE: Final = 20


@dataclass(frozen=True, slots=True)
class RecallPolicy:
    """How much is recalled; the fields are those of the memory settings, *timeout* in seconds."""

    top_k: int = 10
    token_budget: int = 1500
    clip_sentences: int = 2
    min_relevance_score: float = 0.7
    timeout: float = 1.0


@dataclass(frozen=True, slots=True)
class Recollection:
    """What was recalled: a block of text for the prompt (empty if nothing was), and the event of it."""

    text: str
    event: Recalled


class Searchable(Protocol):
    """What can be searched for what one user said and was told."""

    async def search(
        self, user_id: str, query: str, *, limit: int, session_id: str | None = None
    ) -> Sequence[Passage]:
        """See `Memory`."""
        ...


class Recall:
    """Searches *memory* for a turn and makes a piece of prompt of what it finds.

    *count* gives the tokens of a text.
    """

    def __init__(
        self, memory: Searchable, policy: RecallPolicy, *, count: Callable[[str], int]
    ) -> None:
        self._memory = memory
        self._policy = policy
        self._count = count
        self._searches: set[asyncio.Task[Sequence[Passage]]] = set()

    async def recall(self, turn: Turn, history: Sequence[Message] = ()) -> Recollection:
        """What bears on *turn* and is not in *history*; see `searching`."""
        async with self.searching(turn) as search:
            return await search.recollect(history)

    @asynccontextmanager
    async def searching(self, turn: Turn) -> AsyncIterator[Search]:
        """A search for *turn*, which goes on while the block does something else.

        Leaving the block cancels it, if it has not ended.
        """
        logger.bind(request_id=turn.request_id).info("Retrieving memory context")
        # A task, because a cancelled search may take a while to end (SQLite finishes a running
        # query first), and an answer does not wait for that.
        task = asyncio.create_task(self._found(turn), name=f"memory search {turn.request_id}")
        self._searches.add(task)
        task.add_done_callback(self._ended)
        try:
            yield Search(turn, task, self._policy, self._count)
        finally:
            task.cancel()

    async def close(self) -> None:
        """Give cancelled searches a moment to end."""
        if self._searches:
            await asyncio.wait(self._searches, timeout=_CLOSE_TIMEOUT)

    async def _found(self, turn: Turn) -> Sequence[Passage]:
        spare = _SPARE if turn.session_id else 1  # the question itself may be found
        return await self._memory.search(
            turn.user_id,
            turn.message,
            limit=self._policy.top_k + spare,
            session_id=turn.session_id,
        )

    def _ended(self, search: asyncio.Task[Sequence[Passage]]) -> None:
        self._searches.discard(search)
        if not search.cancelled():
            search.exception()  # asyncio complains about one that nobody looked at


class Search:
    """A search that runs, and may take as long as *policy* says from now on."""

    def __init__(
        self,
        turn: Turn,
        task: asyncio.Task[Sequence[Passage]],
        policy: RecallPolicy,
        count: Callable[[str], int],
    ) -> None:
        self._turn = turn
        self._task = task
        self._policy = policy
        self._count = count
        self._began = perf_counter()
        self._took: float | None = None
        task.add_done_callback(self._note)

    async def recollect(self, history: Sequence[Message]) -> Recollection:
        """What bears on the turn and is not in *history*, the other messages of its prompt, already.

        Never raises, and waits no longer than the policy's timeout, counted from the search's
        beginning.
        """
        policy = self._policy
        found = await self._outcome()
        # Not the wait for the history, which somebody may have had in between.
        searched = perf_counter() - self._began if self._took is None else self._took
        packing = perf_counter()
        # What is in the prompt may be found as well, and must not take another's place.
        known = {self._turn.message, *(message.content for message in history)}
        relevant = [
            passage
            for passage in found or ()
            if passage.relevance >= policy.min_relevance_score and passage.text not in known
        ]
        text, results = await pack(
            relevant[: policy.top_k],
            self._turn.message,
            known=known,
            sentences=policy.clip_sentences,
            budget=policy.token_budget,
            count=self._count,
        )
        tokens = self._count(text) if text else 0
        elapsed = searched + perf_counter() - packing
        event = Recalled(results, tokens, elapsed, degraded=found is None)
        logger.bind(
            request_id=self._turn.request_id,
            memory_ms=round(event.elapsed * 1000),
            results_count=results,
            total_tokens=tokens,
            degraded=event.degraded,
        ).info("Memory retrieval completed")
        return Recollection(text, event)

    async def _outcome(self) -> Sequence[Passage] | None:
        """What memory finds, or None if it was too late or failed."""
        search, log = self._task, logger.bind(request_id=self._turn.request_id)
        left = self._policy.timeout - (perf_counter() - self._began)
        await asyncio.wait({search}, timeout=max(left, 0.0))
        if not search.done() or search.cancelled():
            log.warning("Memory search did not finish")
            return None
        if failure := search.exception():
            # A memory is a plug-in: whatever it raises, the answer goes on without it.
            log.opt(exception=failure).warning("Memory search failed")
            return None
        return search.result()

    def _note(self, task: asyncio.Task[Sequence[Passage]]) -> None:
        self._took = perf_counter() - self._began
