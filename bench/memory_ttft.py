"""What memory costs the first token: `python -m bench.memory_ttft --mine 10000`.

Asks the service, with its stub provider and SQLite, the same questions in turn with and without
`useMemory`, one after the other and in one session, whose history is read too; what the search
took is what the telemetry says.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import aiohttp

from bench.memory_latency import fill, message
from bench.processes import bench
from bench.table import machine
from services.storage.database import open_database
from settings import Settings
from settings.development import development_token

_USER: Final = "bench"
_SESSION: Final = "session-20260508-135600-be0c"


async def _first_token(
    http: aiohttp.ClientSession, url: str, question: str, *, memory: bool
) -> float:
    began = time.perf_counter()
    body = {"message": question, "useMemory": memory, "sessionId": _SESSION}
    async with http.post(url, json=body) as answer:
        answer.raise_for_status()
        taken = 0.0
        async for line in answer.content:
            if not taken and line.startswith(b"event: token"):
                taken = time.perf_counter() - began
    return taken


async def _searched(url: str) -> list[float]:
    """What the searches took, in seconds, once all are written."""
    async with open_database(url) as database:
        rows = await database.fetch_all(
            "SELECT payload_json FROM telemetry_events WHERE type = 'openai_call'"
        )
    payloads = [json.loads(row["payload_json"]) for row in rows]
    return [p["memory_ms"] / 1000 for p in payloads if p["memory_ms"] is not None]


async def _run(mine: int, questions: int) -> None:
    chance = random.Random(1)
    with TemporaryDirectory(prefix="bench-") as folder:
        database_url = f"sqlite:///{Path(folder)}/chat.db"
        async with open_database(database_url) as database:
            await fill(database, chance, [_USER], mine)
        taken: dict[bool, list[float]] = {False: [], True: []}
        with bench() as start:
            service = start.service(DATABASE_URL=database_url)
            url = f"http://127.0.0.1:{service.target.port}/api/v1/chat"
            headers = {"Authorization": f"Bearer {development_token(Settings(), user_id=_USER)}"}
            async with aiohttp.ClientSession(headers=headers) as http:
                for number in range(questions + 5):
                    question = f"What did I say about {message(chance, 6)}?"
                    for memory in (False, True):
                        first = await _first_token(http, url, question, memory=memory)
                        if number >= 5:
                            taken[memory].append(first)
        searched = median((await _searched(database_url))[5:])
    without, with_memory = median(taken[False]), median(taken[True])
    print(f"first token without memory, median of {questions}  {1000 * without:.1f} ms")
    print(f"first token with memory                     {1000 * with_memory:.1f} ms")
    print(f"difference                                  {1000 * (with_memory - without):.1f} ms")
    print(f"of it retrieval, by the telemetry           {1000 * searched:.1f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mine", type=int, default=10_000, help="messages remembered of the user")
    parser.add_argument("--questions", type=int, default=100)
    given = parser.parse_args()
    print(machine())
    asyncio.run(_run(given.mine, given.questions))
