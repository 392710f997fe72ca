"""Recall: what of a user's memory goes into a prompt, whichever memory it comes from.

The search races a deadline, and what it finds is filtered by relevance, clipped to the sentences
that matter and packed into a budget of tokens. A slow or broken memory costs the user nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Final, Protocol

from loguru import logger

from services.events import Recalled
from services.memory import Passage
from services.memory.packing import pack
from services.turn import Message, Turn

_CLOSE_TIMEOUT: Final = 1.0


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
        """What bears on *turn* and is not in *history*, the other messages of its prompt, already.

        Never raises, and takes no longer than the policy's timeout. Cancelled, it cancels the search.
        """
        policy = self._policy
        log = logger.bind(request_id=turn.request_id)
        log.info("Retrieving memory context")
        started = perf_counter()
        # What is in the prompt may be found as well, and must not take another's place.
        found = await self._search(turn, policy.top_k + len(history))
        known = {turn.message, *(message.content for message in history)}
        relevant = [
            passage
            for passage in found or ()
            if passage.relevance >= policy.min_relevance_score and passage.text not in known
        ]
        text, results = await pack(
            relevant[: policy.top_k],
            turn.message,
            known=known,
            sentences=policy.clip_sentences,
            budget=policy.token_budget,
            count=self._count,
        )
        tokens = self._count(text) if text else 0
        event = Recalled(results, tokens, perf_counter() - started, degraded=found is None)
        log.bind(
            memory_ms=round(event.elapsed * 1000),
            results_count=results,
            total_tokens=tokens,
            degraded=event.degraded,
        ).info("Memory retrieval completed")
        return Recollection(text, event)

    async def close(self) -> None:
        """Give cancelled searches a moment to end."""
        if self._searches:
            await asyncio.wait(self._searches, timeout=_CLOSE_TIMEOUT)

    async def _search(self, turn: Turn, limit: int) -> Sequence[Passage] | None:
        """What memory finds, or None if it was too late or failed."""
        # A task, because a cancelled search may take a while to end (SQLite finishes a running
        # query first), and an answer does not wait for that.
        search = asyncio.create_task(
            self._found(turn, limit), name=f"memory search {turn.request_id}"
        )
        self._searches.add(search)
        search.add_done_callback(self._ended)
        try:
            await asyncio.wait({search}, timeout=self._policy.timeout)
        finally:
            search.cancel()
        log = logger.bind(request_id=turn.request_id)
        if not search.done() or search.cancelled():
            log.warning("Memory search did not finish")
            return None
        if failure := search.exception():
            # A memory is a plug-in: whatever it raises, the answer goes on without it.
            log.opt(exception=failure).warning("Memory search failed")
            return None
        return search.result()

    async def _found(self, turn: Turn, limit: int) -> Sequence[Passage]:
        return await self._memory.search(
            turn.user_id, turn.message, limit=limit, session_id=turn.session_id
        )

    def _ended(self, search: asyncio.Task[Sequence[Passage]]) -> None:
        self._searches.discard(search)
        if not search.cancelled():
            search.exception()  # asyncio complains about one that nobody looked at
