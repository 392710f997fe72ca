"""The archive: what was said is kept, in the conversation and in memory, without anybody waiting."""

from __future__ import annotations

from asyncio import timeout
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final
from uuid import uuid4

from loguru import logger

from services.errors import Unavailable
from services.events import FinishReason
from services.memory import BulkMemory, Memory, Passage
from services.storage.conversations import Conversations, FinishedTurn
from services.storage.write_behind import Pace, WriteBehind
from services.together import Together
from services.turn import Message, Turn

_PACE: Final = Pace()
# Characters of an answer that weigh as much as a whole turn of fewer. A hundred of 100,000 in one batch
# kept everybody's history waiting, and at a stop were not done in time, none of them.
_LONG: Final = 20_000
# How long a search waits for turns that are just being remembered, in seconds.
_LEARNING: Final = 0.2


class Archive:
    """Finished turns on their way into *conversations* and *memory*.

    Each has its own queue: one that is away holds up neither the other nor a stream. *patience* is
    how long, in seconds, an answer waits for its session's history.
    """

    def __init__(
        self,
        conversations: Conversations,
        memory: Memory,
        pace: Pace = _PACE,
        *,
        patience: float = 1.0,
    ) -> None:
        self._conversations = conversations
        self._memory = memory
        self._patience = patience
        self._to_conversations: WriteBehind[FinishedTurn] = WriteBehind(
            "Conversations", "Turns of conversations", self._converse, pace, weigh=_weight
        )
        # A memory service retries within one attempt, so it gets a longer one.
        together = pace.batch if isinstance(memory, BulkMemory) else 1
        self._to_memory: WriteBehind[FinishedTurn] = WriteBehind(
            "Memory",
            "Turns to remember",
            self._remember,
            replace(pace, attempt=max(pace.attempt, 60.0), batch=together),
            weigh=_weight,
        )

    @property
    def depth(self) -> int:
        """Writes that are still to be done."""
        return self._to_conversations.depth + self._to_memory.depth

    @property
    def dropped(self) -> int:
        """Writes that will never be done."""
        return self._to_conversations.dropped + self._to_memory.dropped

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Archive]:
        """Write while the block runs; at its end what is left."""
        async with Together() as queues:
            await queues.enter(self._to_conversations.writing())
            await queues.enter(self._to_memory.writing())
            yield self

    def keep(self, turn: Turn, answer: str, *, finish_reason: FinishReason) -> None:
        """Keep *turn* and its *answer* as far as it came. Never blocks, never raises."""
        finished = FinishedTurn(uuid4().hex, turn, answer, finish_reason)
        self._to_conversations.put(finished)
        self._to_memory.put(finished)

    async def settled(self) -> None:
        """Wait until everything that was kept is written."""
        await self._to_conversations.written(lambda _: True)
        await self._to_memory.written(lambda _: True)

    async def caught_up(self, user_id: str, session_id: str | None = None) -> None:
        """Wait until what was kept of the user, or of one session, can be read; not for ever."""
        with suppress(TimeoutError):
            async with timeout(self._patience):
                await self._to_conversations.written(_of(user_id, session_id))

    async def search(
        self, user_id: str, query: str, *, limit: int, session_id: str | None = None
    ) -> Sequence[Passage]:
        """What memory finds, see `Memory`, the user's last turns included if it is quick to learn."""
        if isinstance(self._memory, BulkMemory):
            with suppress(TimeoutError):
                async with timeout(_LEARNING):
                    await self._to_memory.written(_of(user_id, None))
        return await self._memory.search(user_id, query, limit=limit, session_id=session_id)

    async def history(self, turn: Turn, *, budget: int) -> Sequence[Message]:
        """What was last said in the turn's session, within *budget* tokens, oldest first.

        Turns that were kept are waited for. If storage is slow or away, there is no history.
        """
        if turn.session_id is None or budget <= 0:
            return ()
        with suppress(TimeoutError, Unavailable):
            async with timeout(self._patience):
                await self._to_conversations.written(_of(turn.user_id, turn.session_id))
                return await self._conversations.recent(
                    turn.user_id, turn.session_id, budget=budget
                )
        logger.bind(request_id=turn.request_id).warning("Conversation history unavailable")
        return ()

    async def erase(self, user_id: str, session_id: str | None = None) -> bool:
        """Erase a session of the user, or everything, wherever it is or was about to be written.

        Whether there was anything stored. Raises `Unavailable`; what was erased by then stays so.
        """
        await self._to_conversations.discard(_of(user_id, session_id))
        await self._to_memory.discard(_of(user_id, session_id))
        await self._memory.forget(user_id, session_id)
        return await self._conversations.delete(user_id, session_id)

    async def _converse(self, finished: Sequence[FinishedTurn]) -> None:
        await self._conversations.add(*finished)

    async def _remember(self, finished: Sequence[FinishedTurn]) -> None:
        if isinstance(self._memory, BulkMemory):
            await self._memory.add_all([(each.turn, each.answer) for each in finished])
            return
        for each in finished:
            await self._memory.add(each.turn, each.answer)


def _weight(finished: FinishedTurn) -> int:
    return 1 + len(finished.answer) // _LONG


def _of(user_id: str, session_id: str | None) -> Callable[[FinishedTurn], bool]:
    def matches(finished: FinishedTurn) -> bool:
        turn = finished.turn
        return turn.user_id == user_id and session_id in (None, turn.session_id)

    return matches
