"""Mixed traffic for as long as is asked for: memory, descriptors, tasks, streams and rows must stay in order.

    python -m bench soak minutes=30
    python -m bench soak minutes=30 users=1   # who has 60,000 messages at its end

Clients ask, read to the end, hang up anywhere, stop, repeat, page and probe at random. It prints what
the process holds every ten seconds, and fails if something was lost or left. Numbers of requests are
whatever the machine can do with 32 clients.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import aiohttp
import psutil

from settings import Settings
from settings.development import development_token
from tests.process.process_service import Service, started

CHAT = "/api/v1/chat"
USERS = 1_000
VISIT = 20  # acts of one user on end
# Caches and pools fill, and the allocator finds its size; then memory has to stay.
WARM_UP = 3.0  # seconds, or this part of the time
WARM_UP_PART = 0.1
DEVIATION = 64 * 1024 * 1024
BUSY = {"chat_streams", "chat_connections", "chat_telemetry_waiting"}
VARIABLES = {
    "OPENAI_SSE_HEARTBEAT_MS": "200",
    "STREAM_RETENTION_MS": "1000",
    "STREAM_RESUME_GRACE_MS": "200",
    "LOG_FILE_MAX_BYTES": "100000000000",
}


class Traffic:
    """Random clients of *service*, who are so many *users*; `done` counts what they did."""

    def __init__(self, service: Service, *, users: int) -> None:
        self.done: Counter[str] = Counter()
        self._service = service
        self._users = users
        self._random = random.Random(1)

    async def run(self, seconds: float, *, clients: int = 32) -> None:
        """Keep *clients* busy for *seconds*. Raises what a client did not expect."""
        until = asyncio.get_running_loop().time() + seconds
        async with (
            aiohttp.TCPConnector(limit=0) as connector,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(clients):
                group.create_task(self._client(connector, until))

    async def _client(self, connector: aiohttp.BaseConnector, until: float) -> None:
        while asyncio.get_running_loop().time() < until:
            token = development_token(
                Settings(), user_id=f"user-{self._random.randrange(self._users)}", ttl=86_400
            )
            async with aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {token}"},
                connector=connector,
                connector_owner=False,
            ) as session:
                await self._visit(session, until)

    async def _visit(self, session: aiohttp.ClientSession, until: float) -> None:
        acts = (self._read, self._hang_up, self._stop, self._repeat, self._page, self._fail)
        for _ in range(VISIT):
            if asyncio.get_running_loop().time() >= until:
                return
            act = self._random.choice(acts)
            await act(session)
            self.done[act.__name__.strip("_")] += 1

    async def _ask(self, session: aiohttp.ClientSession, **fields: str | bool) -> bytes:
        async with session.post(
            self._service.url(CHAT), json={"message": "hi", **fields}
        ) as answer:
            assert answer.status == 200
            body = await answer.read()
            assert body.count(b"event: done") == 1
            return body

    async def _read(self, session: aiohttp.ClientSession) -> None:
        await self._ask(session, useMemory=True)

    async def _hang_up(self, session: aiohttp.ClientSession) -> None:
        body = {"message": "Tell me a long story", "resumable": self._random.random() < 0.5}
        async with session.post(self._service.url(CHAT), json=body) as answer:
            await answer.content.readany()
            await asyncio.sleep(self._random.uniform(0, 0.3))
            answer.close()

    async def _stop(self, session: aiohttp.ClientSession) -> None:
        body = {"message": "Tell me a long story", "resumable": True}
        async with session.post(self._service.url(CHAT), json=body) as answer:
            url = self._service.url(f"{CHAT}/{answer.headers['x-stream-id']}")
            async with session.delete(url) as stopped:
                assert stopped.status == 202
            assert b'"aborted"' in await answer.read()

    async def _repeat(self, session: aiohttp.ClientSession) -> None:
        headers = {"Idempotency-Key": f"{self._random.getrandbits(64):x}"}
        bodies = set()
        for _ in range(2):
            async with session.post(
                self._service.url(CHAT), json={"message": "hi"}, headers=headers
            ) as answer:
                bodies.add((await answer.read()).partition(b"event: ")[2])
        assert len(bodies) == 1

    async def _page(self, session: aiohttp.ClientSession) -> None:
        async with session.get(self._service.url("/api/v1/sessions")) as answer:
            assert answer.status == 200
        async with session.get(self._service.url("/api/v1/auth/ping")) as answer:
            assert (await answer.json())["authenticated"] is True

    async def _fail(self, session: aiohttp.ClientSession) -> None:
        headers = {"X-Test-Scenario": self._random.choice(["server_error", "cut_mid_stream"])}
        async with session.post(
            self._service.url(CHAT), json={"message": "hi"}, headers=headers
        ) as answer:
            assert b'"finish_reason":"error"' in await answer.read()


async def soak(
    folder: Path, seconds: float, report: Callable[[str], None], *, users: int = USERS
) -> None:
    """Run mixed traffic of so many *users* for *seconds*. Raises AssertionError for what was lost or left."""
    with started(folder, VARIABLES) as service:
        process = psutil.Process(service.process.pid)
        descriptors, tasks = _descriptors(process), service.metric("chat_tasks")
        traffic = Traffic(service, users=users)
        await traffic.run(max(WARM_UP, WARM_UP_PART * seconds))
        base = most = process.memory_info().rss
        report(f"{traffic.done.total()} acts, {base >> 20} MiB to begin with")
        for _ in range(max(1, round(seconds / 10))):
            await traffic.run(min(10, seconds))
            memory = process.memory_info().rss
            most = max(most, memory)
            report(
                f"{traffic.done.total()} acts, {memory >> 20} MiB, {most >> 20} at most,"
                f" {_descriptors(process)} descriptors, {service.metric('chat_tasks'):g} tasks"
            )
        await _settled(service, process, descriptors, tasks)
        assert most - base < DEVIATION, f"grew from {base >> 20} to {most >> 20} MiB"
        service.process.terminate()
        assert await asyncio.to_thread(service.wait, 30) == 0
        output = service.output
    assert "Traceback" not in output, output
    _assert_one_row_per_turn(folder)
    report(f"{dict(traffic.done)}")


async def _settled(
    service: Service, process: psutil.Process, descriptors: int, tasks: float
) -> None:
    """Return when no stream runs, nothing waits, and no more *descriptors* and *tasks* are there than before."""
    async with aiohttp.ClientSession() as session:
        left: list[str] = []
        running = 0.0
        for _ in range(200):
            async with session.get(service.url("/metrics")) as answer:
                lines = (await answer.text()).splitlines()
            left = [
                line for line in lines if line.split(" ")[0] in BUSY and line.split(" ")[1] != "0.0"
            ]
            running = next(
                float(line.split(" ")[1]) for line in lines if line.startswith("chat_tasks ")
            )
            # This client's own connection is one.
            if not left and _descriptors(process) <= descriptors + 2 and running <= tasks + 1:
                return
            await asyncio.sleep(0.1)
    raise AssertionError(
        f"left: {left}, {_descriptors(process)} descriptors, {descriptors} before,"
        f" {running} tasks, {tasks} before"
    )


def _descriptors(process: psutil.Process) -> int:
    """How many the process has open, without the database's.

    SQLite keeps the descriptors of closed connections for the next ones while another connection holds
    a lock (https://sqlite.org/src/file/src/os_unix.c), so there are as many as were ever needed at once.
    """
    database = [file for file in process.open_files() if "/chat.db" in file.path]
    return int(process.num_fds()) - len(database)


def _assert_one_row_per_turn(folder: Path) -> None:
    lines = map(json.loads, (folder / "api.log").read_text().splitlines())
    ended = Counter(
        line["request_id"] for line in lines if line["message"] == "Chat completion finished"
    )
    with closing(sqlite3.connect(folder / "chat.db")) as database:
        rows = Counter(
            request_id
            for (request_id,) in database.execute(
                "SELECT request_id FROM telemetry_events WHERE type = 'openai_call'"
            )
        )
    assert ended == rows
    assert set(rows.values()) == {1}


def run(minutes: float = 30, users: int = USERS) -> None:
    """Run it for so many *minutes* with so many *users*; exits with 1 if anything was lost or left."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        try:
            asyncio.run(soak(Path(folder), minutes * 60, partial(print, flush=True), users=users))
        except AssertionError as exc:
            sys.exit(str(exc))
