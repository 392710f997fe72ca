from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.memory.terms import index_terms, query_terms, speaker_of
from services.steps import at_once


def _indexed(text: str) -> frozenset[str]:
    return at_once(index_terms(text)).terms


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
        "What do you know about me?",
        "Can you remind me what we talked about?",
        "Remind me of our last conversation",
        "Was weißt du über mich?",
        "Kannst du mich daran erinnern, worüber wir gesprochen haben?",
        "Erinnere mich an unser letztes Gespräch",
        "Que sais-tu de moi ?",
        "Peux-tu me rappeler de quoi nous avons parlé ?",
        "Rappelle-moi notre dernière conversation",
        "¿Qué sabes de mí?",
        "¿Puedes recordarme de qué hablamos?",
        "Recuérdame nuestra última conversación",
        "Cosa sai di me?",
        "O que você sabe sobre mim?",
        "Wat weet je over mij?",
        "你对我了解什么？",
        "你能提醒我我们之前谈了什么吗？",
        "你还记得我们上次的对话吗？",
        "私について何を知っていますか？",
        "私たちは何について話しましたか",
        "前回の会話を思い出させてください",
        "나에 대해 무엇을 알고 있어?",
        "우리가 무슨 얘기를 했는지 알려줘",
        "우리의 마지막 대화를 알려줘",
        "คุณรู้อะไรเกี่ยวกับฉันบ้าง",
        "ช่วยเตือนฉันหน่อยว่าเราคุยอะไรกัน",
        "การสนทนาครั้งที่แล้วของเรา",
        "?!",
        "",
    ],
)
def test_a_question_about_earlier_talk_has_no_topic(question: str) -> None:
    assert _sought(question) == []


def test_a_topic_is_sought_even_when_the_question_is_about_earlier_talk() -> None:
    assert _sought("What did we say about the garden?") == [{"garden"}]


@pytest.mark.parametrize(
    ("question", "topic"),
    [
        ("Remind me of the dentist", "dentist"),
        ("Où est mon chat ?", "chat"),
        ("Comment va mon chat ?", "chat"),
        ("提醒我买牛奶", "牛奶"),
        ("すし", "すし"),
        ("내 나이는?", "나이"),
    ],
)
def test_a_topic_that_looks_like_earlier_talk_is_sought(question: str, topic: str) -> None:
    assert topic in set().union(*_sought(question))


@pytest.mark.parametrize(
    "keywords", ["Melanie car", "sea", "Ben", "Fix front door", "come", "want", "comment"]
)
def test_of_keywords_all_are_sought(keywords: str) -> None:
    """Each of these has a stop word of another language."""
    sought = set().union(*_sought(keywords))

    assert sought.issuperset(keywords.lower().split())


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("Er war am Montag in Kliniken", "Welche Klinik war das?"),
        ("Am Montag Berge", "Welcher Berg?"),
        ("Mi hermano es alérgico a las nueces", "¿Mis hermanos?"),
        ("Ma fille adore les chevaux et les chats", "Où est le chat ?"),
    ],
)
def test_words_are_found_inflected_in_a_text_of_unclear_language(said: str, asked: str) -> None:
    """A short text may have no word that tells its language, or one that English has as well."""
    indexed = _indexed(said)

    assert any(spellings & indexed for spellings in query_terms(asked).terms)


def test_the_inflection_of_another_language_is_not_an_english_word() -> None:
    """Without its ending, "care" is "car"."""
    assert not query_terms("care").terms[0] & _indexed("The car is here")


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("I bought it", "What did he buy?"),
        ("We went there", "When did they go?"),
        ("The kids are fine", "How many children has she?"),
        ("My mom called", "How is her mother?"),
    ],
)
def test_irregular_forms_and_everyday_synonyms_are_found(said: str, asked: str) -> None:
    indexed = _indexed(said)

    assert all(spellings & indexed for spellings in query_terms(asked).terms)


def test_words_that_are_stop_words_elsewhere_are_sought() -> None:
    """ "son", "die" and "war" say nothing in Spanish or German."""
    assert _sought("Did her son die in the war?") == [{"son"}, {"die"}, {"war"}]


def test_accents_and_case_do_not_matter() -> None:
    assert _sought("CAFÉ Müller") == _sought("cafe muller")


def test_chinese_is_indexed_by_characters_and_pairs() -> None:
    assert _indexed("喜欢猫") == {"喜", "欢", "猫", "喜欢", "欢猫"}


def test_words_and_unspaced_runs_mix() -> None:
    assert _indexed("my iPhone手机") == {"my", "iphon", "手", "机", "手机"}


def test_a_long_text_is_indexed_as_one() -> None:
    """It is read in pieces, which no word and no run may be cut by."""
    words = [f"word{number}" for number in range(5_000)]
    run = "今天我们喜欢猫" * 1_000

    indexed = at_once(index_terms(f"{' '.join(words)} {run} {'ö' * 3_000}"))

    assert {*words, "今天", "天我", "猫今", "o" * 64} <= indexed.terms
    assert indexed.length == 5_000 + 3_500 + 1


def test_a_text_without_spaces_is_read_in_pieces_too() -> None:
    """33,000 characters of Japanese were one step, of 8 ms."""
    assert sum(1 for _ in index_terms("。！" * 10_000)) == 10


def test_a_text_of_another_language_keeps_its_words() -> None:
    terms = _indexed("Die Katzen sind nicht hier")

    assert {"katzen", "katz~"} <= terms


def test_of_too_many_words_the_longest_are_sought() -> None:
    short = [f"a{number}" for number in range(30)]

    sought = _sought(" ".join([*short, "constantinople"]))

    assert len(sought) == 24
    assert {"constantinople", "constantinopl", "constantinopl~"} in sought


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
    indexed = _indexed(text)

    assert all(spellings & indexed for spellings in query_terms(text).terms)
