"""Memory in Zep: our users and sessions as Zep's users and threads."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from databases import Database

from services.errors import Unavailable
from services.memory import Passage
from services.memory.turn_key import turn_key
from services.memory.zep_api import ZepApi, ZepRefused
from services.storage.outages import outages_translated
from services.turn import Role, Turn


class ZepMemory:
    """A `Memory` in Zep. Which of its ids are ours is kept in *database*, whose schema is up to date.

    Zep digests what it is told in the background: a turn is found some time after it was added.
    Raises `Unavailable` while Zep or the database is away, and `ZepRefused`.
    """

    def __init__(self, database: Database, api: ZepApi) -> None:
        self._database = database
        self._api = api

    async def add(self, turn: Turn, answer: str) -> None:
        """Remember *turn* and its *answer*; blank texts are left out.

        Adding the same turn again, after an error, does not make it twice.
        """
        said: list[tuple[Role, str]] = [("user", turn.message), ("assistant", answer)]
        said = [(role, text) for role, text in said if text.strip()]
        if not said:
            return
        key = turn_key(turn)
        session_id = turn.session_id or f"once-{key}"
        try:
            thread = await self._thread(turn.user_id, session_id)
            await self._api.add(thread, said, session_id=session_id, said_at=turn.asked_at, key=key)
        except ZepRefused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise
            # Somebody deleted them in Zep; the next attempt makes new ones.
            await self._execute(_FORGET_THREADS, {"user_id": turn.user_id})
            await self._execute(_FORGET_USER, {"user_id": turn.user_id})
            raise Unavailable from refused

    async def search(
        self,
        user_id: str,
        query: str,
        *,
        limit: int,
        session_id: str | None = None,
    ) -> Sequence[Passage]:
        """The *limit* messages of *user_id* that bear most on *query*, best first."""
        user = await self._find(_USER, {"user_id": user_id})
        if user is None:
            return ()
        return await self._api.search(user, query, limit=limit)

    async def forget(self, user_id: str, session_id: str | None = None) -> None:
        """Erase one session of *user_id*, or the user. Zep finishes erasing in the background."""
        values = {"user_id": user_id}
        if session_id is None:
            if user := await self._find(_USER, values):
                await self._api.delete("users", user)
            await self._execute(_FORGET_THREADS, values)
            await self._execute(_FORGET_USER, values)
            return
        values["session_id"] = session_id
        if thread := await self._find(_THREAD, values):
            await self._api.delete("threads", thread)
            await self._execute(_FORGET_THREAD, values)

    async def _thread(self, user_id: str, session_id: str) -> str:
        values = {"user_id": user_id, "session_id": session_id}
        known = await self._find(_THREAD, values)
        if known is not None:
            return known
        uuid = await self._api.thread(await self._user(user_id))
        await self._execute(_KEEP_THREAD, {**values, "uuid": uuid})
        # Another process may have been faster; then its thread is the one.
        return await self._find(_THREAD, values) or uuid

    async def _user(self, user_id: str) -> str:
        values = {"user_id": user_id}
        known = await self._find(_USER, values)
        if known is not None:
            return known
        uuid = await self._api.user(user_id)
        await self._execute(_KEEP_USER, {**values, "uuid": uuid})
        return uuid

    async def _find(self, sql: str, values: dict[str, str]) -> str | None:
        with outages_translated():
            found: Any = await self._database.fetch_val(sql, values)
        return None if found is None else str(found)

    async def _execute(self, sql: str, values: dict[str, str]) -> None:
        with outages_translated():
            await self._database.execute(sql, values)


_USER = "SELECT uuid FROM zep_users WHERE user_id = :user_id"
_THREAD = "SELECT uuid FROM zep_threads WHERE user_id = :user_id AND session_id = :session_id"
_KEEP_USER = """
    INSERT INTO zep_users (user_id, uuid) VALUES (:user_id, :uuid)
    ON CONFLICT (user_id) DO UPDATE SET uuid = excluded.uuid"""
_KEEP_THREAD = """
    INSERT INTO zep_threads (user_id, session_id, uuid) VALUES (:user_id, :session_id, :uuid)
    ON CONFLICT (user_id, session_id) DO NOTHING"""
_FORGET_THREAD = "DELETE FROM zep_threads WHERE user_id = :user_id AND session_id = :session_id"
_FORGET_THREADS = "DELETE FROM zep_threads WHERE user_id = :user_id"
_FORGET_USER = "DELETE FROM zep_users WHERE user_id = :user_id"
