"""A turn's background: what was said in its session, and what memory knows that bears on it."""

from __future__ import annotations

from services.chat import Background
from services.memory.recall import Recall
from services.storage.archive import Archive
from services.turn import Message, Turn


class ConversationContext:
    """The `Context` of a turn, from *archive* and *recall*; *history_budget* is in tokens."""

    def __init__(self, archive: Archive, recall: Recall, *, history_budget: int) -> None:
        self._archive = archive
        self._recall = recall
        self._history_budget = history_budget

    async def background(self, turn: Turn) -> Background:
        """What is known that bears on *turn*. Never raises; both parts have their deadlines.

        They run side by side, so that a turn waits for the slower one, not for both.
        """
        if not turn.use_memory:
            return Background(history=await self._history(turn))
        async with self._recall.searching(turn) as search:
            history = await self._history(turn)
            recollection = await search.recollect(history)
        return Background(recollection.text, history, recollection.event)

    async def _history(self, turn: Turn) -> tuple[Message, ...]:
        return tuple(await self._archive.history(turn, budget=self._history_budget))
