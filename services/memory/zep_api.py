"""Zep's API v4, call by call, over aiohttp."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, Literal
from uuid import uuid4

import aiohttp

from services.errors import Unavailable
from services.memory import Passage
from services.turn import Role

# What may work when it is tried again; Zep's own client retries the same.
_PASSING: Final = frozenset({
    HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT,
})  # fmt: skip
_MOST_RESULTS: Final = 50
# A longer question is searched by its beginning: there it says what it is about.
_LONGEST_QUERY: Final = 400


class ZepRefused(Exception):
    """Zep will not do this, however often it is asked. `status` is HTTP's; `code` is Zep's word for it."""

    def __init__(self, status: int, code: str, request_id: str) -> None:
        self.status = status
        self.code = code
        super().__init__(f"Zep answered {status} {code} (request {request_id})")


@asynccontextmanager
async def open_zep_api(api_key: str, base_url: str) -> AsyncIterator[ZepApi]:
    """Zep's API at *base_url* while the block runs."""
    async with aiohttp.ClientSession() as http:
        yield ZepApi(http, api_key, base_url=base_url)


class ZepApi:
    """The calls this service makes, on *http*, which closes with its owner.

    *base_url* ends in the version (`…/api/v4`). Writes are tried *attempts* times with pauses from
    *retry* seconds on, each with one idempotency key for all its attempts; a search only once.
    *timeout* is for one attempt, in seconds. Every call raises `Unavailable` if Zep is, or
    `ZepRefused`.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        api_key: str,
        *,
        base_url: str,
        attempts: int = 3,
        retry: float = 1.0,
        timeout: float = 10.0,
    ) -> None:
        self._http = http
        self._headers = {"Authorization": f"Api-Key {api_key}"}
        self._base_url = base_url
        self._attempts = attempts
        self._retry = retry
        self._timeout = aiohttp.ClientTimeout(total=timeout)

    async def user(self, user_id: str) -> str:
        """The UUID of the user with our *user_id*, who is created if there is none."""
        body = {"user_id": user_id}
        try:
            user = await self._write("POST", "/users", body)
        except ZepRefused as refused:
            if refused.status != HTTPStatus.CONFLICT:
                raise
            user = await self._write("POST", "/users/lookup", body)
        return _text(user, "uuid")

    async def thread(self, user_uuid: str) -> str:
        """The UUID of a new thread of the user."""
        return _text(await self._write("POST", "/threads", {"user_uuid": user_uuid}), "uuid")

    async def add(
        self,
        thread_uuid: str,
        messages: list[tuple[Role, str]],
        *,
        session_id: str,
        said_at: datetime,
        key: str,
    ) -> None:
        """Append *messages* to a thread. A second time with the same *key*, nothing happens."""
        at = said_at if said_at.tzinfo else said_at.replace(tzinfo=UTC)
        body = {
            "messages": [
                {
                    "role": role,
                    "content": text,
                    "reference_time": at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
                    "metadata": {"session_id": session_id},
                }
                for role, text in messages
            ]
        }
        await self._write("POST", f"/threads/{thread_uuid}/messages", body, key=key)

    async def search(self, user_uuid: str, query: str, *, limit: int) -> list[Passage]:
        """What was said that bears on *query*, best first, with Zep's own relevance."""
        path = f"/graphs/{user_uuid}/search/episodes?page_size={min(limit, _MOST_RESULTS)}"
        # Only this reranker gives a relevance in [0, 1]; other scores are ranks.
        body = {"query": query[:_LONGEST_QUERY], "reranker": "cross_encoder"}
        found = await self._attempt("POST", path, body, {})
        items = found.get("items")
        if not isinstance(items, list):
            raise Unavailable
        passages = [passage for item in items if (passage := _passage(item))]
        passages.sort(key=lambda passage: passage.relevance, reverse=True)
        return passages[:limit]

    async def delete(self, kind: Literal["threads", "users"], uuid: str) -> None:
        """Delete a thread or a user with everything of theirs; one that is not there is deleted."""
        try:
            await self._write("DELETE", f"/{kind}/{uuid}", None)
        except ZepRefused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise

    async def _write(
        self, method: str, path: str, body: object, *, key: str | None = None
    ) -> Mapping[str, Any]:
        headers = {"Idempotency-Key": key or str(uuid4())}
        for attempt in range(self._attempts - 1):
            try:
                return await self._attempt(method, path, body, headers)
            except Unavailable as exc:
                asked = float(exc.headers.get("retry-after", 0))
                pause = self._retry * 2**attempt * (1 - random.random() / 4)  # noqa: S311 - jitter
                await asyncio.sleep(max(asked, pause))
        return await self._attempt(method, path, body, headers)

    async def _attempt(
        self, method: str, path: str, body: object, headers: Mapping[str, str]
    ) -> Mapping[str, Any]:
        try:
            async with self._http.request(
                method,
                f"{self._base_url}{path}",
                json=body,
                headers={**self._headers, **headers},
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                data = await response.read()
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise Unavailable from exc
        if HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
            return _object(data)
        refused = _refusal(response.status, data)
        if response.status in _PASSING:
            raise Unavailable(retry_after=_retry_after(response)) from refused
        raise refused


def _object(data: bytes) -> Mapping[str, Any]:
    """The JSON object that *data* is; a deletion may answer with nothing at all."""
    try:
        answer = json.loads(data or b"{}")
    except (ValueError, RecursionError) as exc:
        raise Unavailable from exc
    if not isinstance(answer, dict):
        raise Unavailable
    return answer


def _refusal(status: int, data: bytes) -> ZepRefused:
    try:
        error = json.loads(data)["error"]
        return ZepRefused(status, str(error["code"]), str(error.get("request_id", "")))
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return ZepRefused(status, "", "")


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    text = response.headers.get("retry-after", "")
    # A date, or a wait that nobody has the patience for, is ignored.
    return float(text) if text.isascii() and text.isdigit() and len(text) < 3 else None


def _text(answer: Mapping[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise Unavailable
    return value


def _passage(item: object) -> Passage | None:
    """The passage in a search result; None if it is not something a person or we said."""
    match item:
        case {"content": str(text), "role": "user" | "assistant" as role}:
            pass
        case _:
            return None
    match item:
        case {"relevance": float() | int() as relevance}:
            pass
        case _:
            relevance = 0.0
    match item:
        case {"metadata": {"session_id": str(session_id)}}:
            pass
        case _:
            session_id = ""
    return Passage(text, role, session_id, _said_at(item), min(1.0, max(0.0, relevance)))


def _said_at(item: Any) -> datetime:
    for name in ("reference_time", "created_at"):
        try:
            moment = datetime.fromisoformat(item[name])
        except (KeyError, TypeError, ValueError):
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return datetime.fromtimestamp(0, UTC)
