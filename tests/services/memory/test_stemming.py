from __future__ import annotations

import pytest

from services.memory.stemming import stem

# Examples of Porter's paper, one or more for each step.
PORTER = {
    "caresses": "caress", "ponies": "poni", "cats": "cat", "feed": "feed", "agreed": "agre",
    "plastered": "plaster", "motoring": "motor", "sing": "sing", "conflated": "conflat",
    "sized": "size", "hopping": "hop", "falling": "fall", "filing": "file", "happy": "happi",
    "sky": "sky", "relational": "relat", "rational": "ration", "digitizer": "digit",
    "vietnamization": "vietnam", "feudalism": "feudal", "hopefulness": "hope",
    "sensibiliti": "sensibl", "triplicate": "triplic", "electrical": "electr", "goodness": "good",
    "revival": "reviv", "adoption": "adopt", "replacement": "replac", "irritant": "irrit",
    "bowdlerize": "bowdler", "probate": "probat", "rate": "rate", "controll": "control", "roll": "roll",
}  # fmt: skip


@pytest.mark.parametrize(("word", "expected"), PORTER.items())
def test_porters_examples_have_porters_stems(word: str, expected: str) -> None:
    assert stem(word) == expected


@pytest.mark.parametrize("word", ["is", "a", "2024s", "naïves", "猫", ""])
def test_what_is_no_plain_english_word_stays(word: str) -> None:
    assert stem(word) == word
