"""The chaos run at full length: 200 streams, three processes that share a Redis, one of them killed.

`python -m bench chaos seed=N streams=N` prints the seed and what happened; it fails if any
event was lost or doubled, any client was not ended exactly once, or an answer was paid twice.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "streams"))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).parent.parent))

from chaos import UNHURRIED, Model, Outcome, miscounted, unleash
from child_processes import children
from postgres import PostgresServer
from redis_server import RedisServer
from upstream import Upstream

from settings import Settings
from settings.development import development_token


async def _unleash(seed: int, streams: int, folder: Path, database: str, redis: str) -> list[str]:
    """Unleash the chaos and report on it; what was wrong."""
    model = Model()
    async with Upstream() as upstream:
        upstream.plays(model)
        variables = {
            "DATABASE_URL": database,
            "REDIS_URL": redis,
            "OPENAI_API_KEY": "sk-bench",
            "OPENAI_BASE_URL": upstream.url,
            "PROVIDERS": "openai",
            **UNHURRIED,
        }
        with children(3, folder, variables) as processes:
            ports = [process.port for process in processes]
            began = time.monotonic()
            running = asyncio.create_task(
                unleash(seed, ports, streams, development_token(Settings()))
            )
            await upstream.asked(streams // 2)
            processes[seed % 3].kill()
            outcomes = await running
            took = time.monotonic() - began
            survivors = [each for each in processes if each.process.poll() is None]
            problems = [problem for outcome in outcomes for problem in outcome.problems()]
            problems += [
                f"port {each.port}: {each.metric('chat_streams'):g} streams left"
                for each in survivors
                if each.metric("chat_streams")
            ]
            for each in survivors:
                if status := await asyncio.to_thread(each.stop):
                    problems.append(f"port {each.port}: exit status {status}")
        await upstream.connected(0)
    problems += miscounted(outcomes, model)
    print(_summary(outcomes, model, took))
    return problems


def _summary(outcomes: list[Outcome], model: Model, took: float) -> str:
    ended = [outcome.done.data for outcome in outcomes if outcome.failure is None]
    ends = Counter(done.get("code") or done["finish_reason"] for done in ended)
    attempts = sum(outcome.attempts for outcome in outcomes)
    return (
        f"{len(outcomes)} clients, {attempts} connections, {model.calls.total()} provider calls"
        f" in {took:.1f} s: {dict(sorted(ends.items()))}"
    )


def run(seed: int = 0, streams: int = 200) -> None:
    """Run it once, with a random seed if *seed* is 0; exits with 1 if anything was wrong."""
    seed = seed or random.randrange(1, 2**32)
    print(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        # The database runs as another user when this runs as root.
        folder.chmod(0o755)
        database, redis = PostgresServer(folder), RedisServer(folder)
        redis.start()
        try:
            url = database.create_database()
            problems = asyncio.run(_unleash(seed, streams, folder, url, redis.url))
        finally:
            redis.kill()
            database.close()
    if problems:
        sys.exit("\n".join(problems))
