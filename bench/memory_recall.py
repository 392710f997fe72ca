"""What the embedded memory finds: `python -m bench.memory_recall [LOCOMO.json]`.

For each question, the share of its evidence among the first ten results, and among as many of the
first hundred as fit into 1,500 tokens; for each threshold of relevance, how many results it leaves and
the share of them that is evidence or stands right beside it. Without a file, conversations made up for the purpose.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, quantiles
from tempfile import TemporaryDirectory
from typing import Final

from bench.conversations import Conversation, made_up, read
from services.memory import Passage
from services.memory.embedded import EmbeddedMemory
from services.storage.database import open_database
from services.tokens import Tokenizer
from services.turn import Turn

_THRESHOLDS: Final = (0.6, 0.7, 0.8, 0.9)


@dataclass(slots=True)
class Score:
    """One figure per question."""

    at_10: list[float] = field(default_factory=list)
    in_budget: list[float] = field(default_factory=list)
    kept: defaultdict[float, list[float]] = field(default_factory=lambda: defaultdict(list))
    results: defaultdict[float, list[int]] = field(default_factory=lambda: defaultdict(list))
    seconds: list[float] = field(default_factory=list)
    by_category: defaultdict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    near: defaultdict[float, int] = field(default_factory=lambda: defaultdict(int))

    def precision(self, least: float) -> float:
        """Of all results of *least* relevance, the share that is evidence or stands right beside it."""
        return self.near[least] / max(1, sum(self.results[least]))

    def __str__(self) -> str:
        lines = [
            f"questions                     {len(self.at_10)}",
            f"recall@10                     {100 * fmean(self.at_10):.1f} %",
            f"recall in 1,500 tokens        {100 * fmean(self.in_budget):.1f} %",
            f"search p50 / p95              {_ms(self.seconds, 50)} / {_ms(self.seconds, 95)} ms",
        ]
        lines += [
            f"recall@10, category {category}         {100 * fmean(shares):.1f} %"
            for category, shares in sorted(self.by_category.items())
        ]
        lines += [
            f"at relevance {least}              {fmean(self.results[least]):.1f} results of ten,"
            f" {100 * fmean(self.kept[least]):.1f} % of their evidence,"
            f" precision {100 * self.precision(least):.1f} %"
            for least in _THRESHOLDS
        ]
        return "\n".join(lines)


async def evaluate(memory: EmbeddedMemory, conversations: Sequence[Conversation]) -> Score:
    """Tell *memory* everything, then ask it every question."""
    tokenizer = Tokenizer()
    await tokenizer.load()
    score = Score()
    for conversation in conversations:
        ids = await _tell(memory, conversation)
        for question in conversation.questions:
            began = time.perf_counter()
            await memory.search(conversation.id, question.text, limit=10)
            score.seconds.append(time.perf_counter() - began)
            found = await memory.search(conversation.id, question.text, limit=100)

            def share(
                passages: Sequence[Passage],
                evidence: frozenset[str],
                ids: dict[tuple[str, str], set[str]] = ids,
            ) -> float:
                seen = {id_ for p in passages for id_ in ids[p.session_id, p.text]}
                return len(evidence & seen) / len(evidence)

            near = question.evidence | set(_beside(question.evidence))
            ten = share(found[:10], question.evidence)
            score.at_10.append(ten)
            score.by_category[question.category].append(ten)
            score.in_budget.append(share(_fitting(found, tokenizer), question.evidence))
            for least in _THRESHOLDS:
                relevant = [passage for passage in found[:10] if passage.relevance >= least]
                score.results[least].append(len(relevant))
                score.near[least] += sum(
                    not near.isdisjoint(ids[p.session_id, p.text]) for p in relevant
                )
                if ten:
                    score.kept[least].append(share(relevant, question.evidence) / ten)
    return score


async def _tell(
    memory: EmbeddedMemory, conversation: Conversation
) -> dict[tuple[str, str], set[str]]:
    """Add every utterance; which ids a text in a session stands for."""
    ids: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for said in conversation.utterances:
        text = f"{said.speaker}: {said.text}"
        ids[said.session_id, text].add(said.id)
        turn = Turn(
            "bench", conversation.id, text, session_id=said.session_id, asked_at=said.said_at
        )
        await memory.add(turn, "")
    return ids


def _beside(evidence: frozenset[str]) -> Iterator[str]:
    for id_ in evidence:
        session, _, number = id_.partition(":")
        yield from (f"{session}:{int(number) - 1}", f"{session}:{int(number) + 1}")


def _fitting(
    passages: Sequence[Passage], tokenizer: Tokenizer, budget: int = 1500
) -> list[Passage]:
    fitting = []
    for passage in passages:
        tokens = tokenizer.count(passage.text)
        if tokens <= budget:
            budget -= tokens
            fitting.append(passage)
    return fitting


def _ms(seconds: Sequence[float], percent: int) -> str:
    return f"{1000 * quantiles(seconds, n=100, method='inclusive')[percent - 1]:.1f}"


async def _main(file: Path | None, url: str | None, categories: frozenset[int]) -> None:
    conversations = read(file, categories) if file else made_up()
    with TemporaryDirectory() as folder:
        async with open_database(url or f"sqlite:///{folder}/bench.db") as database:
            print(await evaluate(EmbeddedMemory(database), conversations))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?", help="conversations in LoCoMo's format")
    parser.add_argument("--database", help="URL of an empty database; default: SQLite")
    parser.add_argument(
        "--categories", default="1,2,3,4", help="kinds of questions, comma-separated"
    )
    given = parser.parse_args()
    kinds = frozenset(map(int, given.categories.split(",")))
    asyncio.run(_main(given.file, given.database, kinds))
