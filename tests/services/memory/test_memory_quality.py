"""That memory finds what it should: a small evaluation, the large one is `bench.memory_recall`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from databases import Database

from bench.conversations import Question, made_up, read
from bench.memory_recall import evaluate
from services.memory.embedded import EmbeddedMemory


async def test_most_of_what_answers_a_question_is_among_ten_results(
    migrated_database: Database,
) -> None:
    """Measured: 91.7 % among ten, 86.4 % of that above 0.7. Less means that something broke."""
    score = await evaluate(EmbeddedMemory(migrated_database), made_up(conversations=2))

    assert fmean(score.at_10) >= 0.85
    assert fmean(score.kept[0.7]) >= 0.8
    # The guide: raise the threshold to 0.8 for fewer passages.
    assert 1 < fmean(score.results[0.8]) < 0.8 * fmean(score.results[0.7])


async def test_the_higher_the_threshold_the_better_what_is_left(
    migrated_database: Database,
) -> None:
    """The guide: raise the threshold to 0.8 for better passages. Measured: 32, 35, 40 and 51 %."""
    memory = EmbeddedMemory(migrated_database)
    several = [
        replace(conversation, id=f"{seed}-{conversation.id}")
        for seed in (1, 2, 3)
        for conversation in made_up(seed=seed, conversations=2)
    ]

    score = await evaluate(memory, several)

    precision = [score.precision(least) for least in (0.6, 0.7, 0.8, 0.9)]
    assert precision == sorted(set(precision))


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


EVIDENCE = [
    (["D8:6; D9:17"], {"D8:6", "D9:17"}),
    (["D9:1 D4:4 D4:6"], {"D9:1", "D4:4", "D4:6"}),
    (["D:11:26", "D30:05"], {"D11:26", "D30:5"}),
    ("D8:6", {"D8:6"}),
    (["D8:6", "D99:1", "D"], {"D8:6"}),
]


@pytest.mark.parametrize(("written", "meant"), EVIDENCE)
def test_evidence_is_understood_however_it_is_written(
    tmp_path: Path, written: object, meant: set[str]
) -> None:
    said = {"D8:6", "D9:17", "D9:1", "D4:4", "D4:6", "D11:26", "D30:5"}
    file = tmp_path / "locomo.json"
    file.write_text(json.dumps([_sample(said, {"evidence": written})]))

    [conversation] = read(file, frozenset({1}))

    assert [question.evidence for question in conversation.questions] == [meant]


@pytest.mark.parametrize(
    "evidence", [{}, {"evidence": []}, {"evidence": None}, {"evidence": ["D"]}]
)
def test_a_question_without_evidence_is_left_out(tmp_path: Path, evidence: dict[str, Any]) -> None:
    file = tmp_path / "locomo.json"
    file.write_text(json.dumps([_sample({"D1:1"}, evidence)]))

    [conversation] = read(file, frozenset({1}))

    assert conversation.questions == []


def test_sessions_that_are_missing_or_empty_and_pictures_are_no_trouble(tmp_path: Path) -> None:
    sample = {
        "conversation": {
            "session_2_date_time": "9:00 am on 1 June, 2023",
            "session_10": [{"speaker": "Ann", "dia_id": "D10:1", "text": "Bye", "img_url": ["x"]}],
            "session_3": [],
            "session_1": [
                {"speaker": "Ben", "dia_id": "D1:1", "text": "", "blip_caption": "a dog"}
            ],
            "session_1_date_time": None,
        }
    }
    file = tmp_path / "locomo.json"
    file.write_text(json.dumps(sample))

    [conversation] = read(file, frozenset({1}))

    assert conversation.id == "sample-1"
    assert [(said.session_id, said.text) for said in conversation.utterances] == [
        ("session_1", "a dog"),
        ("session_10", "Bye"),
    ]


def _sample(said: set[str], question: dict[str, Any]) -> dict[str, Any]:
    sessions: dict[str, Any] = {}
    for id_ in sorted(said):
        session = id_[1:].partition(":")[0]
        line = {"speaker": "Ann", "dia_id": id_, "text": "Hello"}
        sessions.setdefault(f"session_{session}", []).append(line)
    asked = {"question": "Who?", "answer": 2022, "category": 1, **question}
    return {"sample_id": "conv-1", "conversation": sessions, "qa": [asked]}
