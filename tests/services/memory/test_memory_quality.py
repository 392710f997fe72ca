"""That memory finds what it should: a small evaluation, the large one is `bench.memory_recall`."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

from databases import Database

from bench.conversations import Question, made_up, read
from bench.memory_recall import evaluate
from services.memory.embedded import EmbeddedMemory


async def test_most_of_what_answers_a_question_is_among_ten_results(
    migrated_database: Database,
) -> None:
    """Measured: 90.6 % among ten, 89.7 % of that above 0.7. Less means that something broke."""
    score = await evaluate(EmbeddedMemory(migrated_database), made_up(conversations=2))

    assert fmean(score.at_10) >= 0.85
    assert fmean(score.kept) >= 0.8


def test_locomos_format_is_read(tmp_path: Path) -> None:
    sample = {
        "sample_id": "conv-1",
        "conversation": {
            "speaker_a": "Ann",
            "speaker_b": "Ben",
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [
                {"speaker": "Ann", "dia_id": "D1:1", "text": "Hello"},
                {"speaker": "Ben", "dia_id": "D1:2", "text": "Hi"},
            ],
        },
        "qa": [
            {"question": "Who?", "answer": "Ann", "evidence": ["D1:1; D1:2"], "category": 1},
            {"question": "Adversarial?", "evidence": ["D1:1"], "category": 5},
            {"question": "Nowhere?", "answer": "x", "evidence": ["D9:9"], "category": 1},
        ],
    }
    file = tmp_path / "locomo.json"
    file.write_text(json.dumps([sample]))

    [conversation] = read(file, frozenset({1, 2, 3, 4}))

    assert [said.text for said in conversation.utterances] == ["Hello", "Hi"]
    assert conversation.utterances[0].said_at.isoformat() == "2023-05-08T13:56:00+00:00"
    assert conversation.questions == [Question("Who?", 1, frozenset({"D1:1", "D1:2"}))]
