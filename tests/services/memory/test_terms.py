from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.memory.terms import index_terms, query_terms, speaker_of


def _sought(question: str) -> list[set[str]]:
    return [set(spellings) for spellings in query_terms(question).terms]


def test_a_question_is_sought_by_its_topics_only() -> None:
    assert _sought("What did Caroline research?") == [{"caroline", "carolin"}, {"research"}]


@pytest.mark.parametrize(
    "question",
    [
        "What did we discuss before?",
        "what were we talking about last time",
        "Worüber haben wir letzte Woche gesprochen?",
        "¿De qué hablamos la última vez?",
        "De quoi avons-nous parlé hier ?",
        "我们之前聊了什么？",
        "?!",
        "",
    ],
)
def test_a_question_about_earlier_talk_has_no_topic(question: str) -> None:
    assert _sought(question) == []


def test_a_topic_is_sought_even_when_the_question_is_about_earlier_talk() -> None:
    assert _sought("What did we say about the garden?") == [{"garden"}]


def test_words_that_are_stop_words_elsewhere_are_sought() -> None:
    """ "son", "die" and "war" say nothing in Spanish or German."""
    assert _sought("Did her son die in the war?") == [{"son"}, {"die"}, {"war"}]


def test_accents_and_case_do_not_matter() -> None:
    assert _sought("CAFÉ Müller") == _sought("cafe muller")


def test_chinese_is_indexed_by_characters_and_pairs() -> None:
    assert index_terms("喜欢猫").terms == {"喜", "欢", "猫", "喜欢", "欢猫"}


def test_words_and_unspaced_runs_mix() -> None:
    assert index_terms("iPhone手机").terms == {"iphon", "手", "机", "手机"}


def test_a_text_of_another_language_keeps_its_words() -> None:
    terms = index_terms("Die Katzen sind nicht hier").terms

    assert {"katzen", "katz"} <= terms


def test_of_too_many_words_the_longest_are_sought() -> None:
    short = [f"a{number}" for number in range(30)]

    sought = _sought(" ".join([*short, "constantinople"]))

    assert len(sought) == 24
    assert {"constantinople", "constantinopl"} in sought


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Alice: hello", {"alice"}),
        ("Jean-Luc Picard: engage", {"jean", "luc", "picard"}),
        ("hello", set()),
        ("At 10:30 we met", set()),
        ("one two three four: no name", set()),
        ("[10:32] Alice: Hello", {"alice"}),
        ("(1:56 pm on 8 May, 2023) Alice: Hello", {"alice"}),
        ("2023-05-08 13:56:02 Alice: Hello", {"alice"}),
        ("Alice (8 May 2023): Hello", {"alice"}),
        ('Alice said, "Hello"', {"alice"}),
        ("Alice Ray says: Hello", {"alice", "ray"}),
        ("[Alice] Hello", {"alice"}),
        ("[a link](https://example.com) and more", set()),
        ("Yes, I agree with the plan: it is good", set()),
    ],
)
def test_a_speaker_is_named_in_front_of_a_text(text: str, names: set[str]) -> None:
    assert speaker_of(text) == names


@given(st.text())
def test_a_text_is_found_by_each_of_its_own_topics(text: str) -> None:
    """Whatever the language of the text is taken to be, and of the question."""
    indexed = index_terms(text).terms

    assert all(spellings & indexed for spellings in query_terms(text).terms)
