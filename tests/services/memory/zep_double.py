"""A server that speaks Zep's API v4 as far as this service does, and fails when it is told to."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from aiohttp import web

KEY = "z-key"


@dataclass
class Fault:
    """What the next request gets instead of an answer."""

    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b'{"error": {"code": "unavailable", "message": "", "request_id": "zr-1"}}'
    cut: bool = False
    hang: bool = False
    after: bool = False
    """The request is served first; only its answer is lost."""


@dataclass
class Call:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class ZepDouble:
    """Users, threads and episodes; an episode's relevance is the share of the query's words it has."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[Call] = []
        self.faults: deque[Fault | None] = deque()
        self.users: dict[str, str] = {}
        self.threads: dict[str, str] = {}
        self.episodes: dict[str, list[dict[str, Any]]] = {}
        self._answers: dict[str, web.Response] = {}
        self._release = asyncio.Event()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[ZepDouble]:
        app = web.Application()
        app.router.add_route("*", "/api/v4/{path:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/api/v4"
        try:
            yield self
        finally:
            self._release.set()
            await runner.cleanup()

    def said(self, method: str, start: str) -> list[Call]:
        return [c for c in self.calls if c.method == method and c.path.startswith(start)]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = "/" + request.match_info["path"]
        data = await request.read()
        body = json.loads(data) if data else None
        call = Call(request.method, path, dict(request.query), dict(request.headers), body)
        self.calls.append(call)
        fault = self.faults.popleft() if self.faults else None
        if fault and not fault.after:
            return await self._fail(request, fault)
        if request.headers.get("Authorization") != f"Api-Key {KEY}":
            return _error(401, "unauthorized")
        answer = self._answer_once(call)
        if fault:
            return await self._fail(request, fault)
        return answer

    async def _fail(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if fault.hang:
            await self._release.wait()
        if fault.cut or fault.hang:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(
            status=fault.status,
            headers={"Content-Type": "application/json", **fault.headers},
            body=fault.body,
        )

    def _answer_once(self, call: Call) -> web.Response:
        if call.path.startswith("/graphs/"):
            return self._search(call)
        key = call.headers.get("Idempotency-Key", "")
        if UUID(key).version != 4:
            return _error(400, "invalid_idempotency_key")
        if key not in self._answers:
            self._answers[key] = self._answer(call)
        kept = self._answers[key]
        return web.Response(status=kept.status, headers=kept.headers, body=kept.body)

    def _answer(self, call: Call) -> web.Response:
        match call.method, call.path.strip("/").split("/"):
            case "POST", ["users"]:
                user_id = call.body["user_id"]
                if user_id in self.users:
                    return _error(409, "already_exists")
                self.users[user_id] = str(uuid4())
                self.episodes[self.users[user_id]] = []
                return _user(201, user_id, self.users[user_id])
            case "POST", ["users", "lookup"]:
                user_id = call.body["user_id"]
                if user_id not in self.users:
                    return _error(404, "not_found")
                return _user(200, user_id, self.users[user_id])
            case "POST", ["threads"]:
                owner = call.body["user_uuid"]
                if owner not in self.users.values():
                    return _error(404, "not_found")
                thread = str(uuid4())
                self.threads[thread] = owner
                facts = {"uuid": thread, "user_uuid": owner, "graph_uuid": owner}
                return web.json_response(facts, status=201)
            case "POST", ["threads", thread, "messages"]:
                return self._add(thread, call.body["messages"])
            case "DELETE", ["threads", thread]:
                owner = self.threads.pop(thread, None)
                if owner is None:
                    return _error(404, "not_found")
                self.episodes[owner] = [
                    e for e in self.episodes[owner] if e["thread_uuid"] != thread
                ]
                return web.json_response({"task": {"uuid": str(uuid4()), "status": "pending"}})
            case "DELETE", ["users", uuid]:
                if uuid not in self.users.values():
                    return _error(404, "not_found")
                self.users = {name: u for name, u in self.users.items() if u != uuid}
                self.threads = {t: u for t, u in self.threads.items() if u != uuid}
                del self.episodes[uuid]
                return web.Response(status=204)
        return _error(404, "no_route")

    def _add(self, thread: str, messages: list[dict[str, Any]]) -> web.Response:
        if thread not in self.threads:
            return _error(404, "not_found")
        added = [
            {
                "uuid": str(uuid4()),
                "thread_uuid": thread,
                "created_at": "2026-11-01T00:00:00Z",
                **message,
            }
            for message in messages
        ]
        self.episodes[self.threads[thread]] += added
        task = {"uuid": str(uuid4()), "status": "pending"}
        return web.json_response({"messages": added, "task": task}, status=202)

    def _search(self, call: Call) -> web.Response:
        _, graph, *_ = call.path.strip("/").split("/")
        if graph not in self.episodes:
            return _error(404, "not_found")
        asked = _words(call.body["query"])
        items = [
            {**episode, "score": share, "relevance": share}
            for episode in self.episodes[graph]
            if (share := len(asked & _words(episode["content"])) / len(asked))
        ]
        items.sort(key=lambda item: item["relevance"], reverse=True)
        if call.body.get("reranker") != "cross_encoder":
            for item in items:
                del item["relevance"]
        page = items[: int(call.query["page_size"])]
        return web.json_response({"items": page, "next_cursor": "", "total_size": len(items)})


def _words(text: str) -> set[str]:
    return set(text.lower().strip("?!.").replace("?", "").split())


def _user(status: int, user_id: str, uuid: str) -> web.Response:
    facts = {"uuid": uuid, "user_id": user_id, "graph_uuid": uuid}
    return web.json_response(facts, status=status)


def _error(status: int, code: str) -> web.Response:
    error = {"code": code, "message": code, "param": None, "details": None, "request_id": "zr-0"}
    return web.json_response({"error": error}, status=status)
