"""A turn's background: what was said in its session, and what memory knows that bears on it."""

from __future__ import annotations

from services.chat import Background
from services.memory.recall import Recall
from services.storage.archive import Archive
from services.turn import Turn


class ConversationContext:
    """The `Context` of a turn, from *archive* and *recall*; *history_budget* is in tokens."""

    def __init__(self, archive: Archive, recall: Recall, *, history_budget: int) -> None:
        self._archive = archive
        self._recall = recall
        self._history_budget = history_budget

    async def background(self, turn: Turn) -> Background:
        """What is known that bears on *turn*. Never raises; both parts have their deadlines."""
        history = tuple(await self._archive.history(turn, budget=self._history_budget))
        if not turn.use_memory:
            return Background(history=history)
        recollection = await self._recall.recall(turn, history)
        return Background(recollection.text, history, recollection.event)
