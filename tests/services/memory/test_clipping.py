from __future__ import annotations

from time import thread_time

from hypothesis import given
from hypothesis import strategies as st

from services.memory.clipping import clip
from services.memory.terms import words

LAKE = "We went to the lake near the old mill yesterday in the evening."
DOG = "My dog Biscuit swam across the river and back to us very quickly."
DINNER = "Then we had a long dinner with all of our friends on the terrace."
TEXT = f"{LAKE} {DOG} {DINNER}"


def _clip(text: str, question: str, sentences: int = 1) -> str:
    return clip(text, frozenset(words(question)), sentences=sentences)


def test_the_best_sentence_is_kept_not_the_first() -> None:
    assert _clip(TEXT, "dog biscuit") == DOG


def test_sentences_stay_in_their_order_with_a_gap_where_some_are_missing() -> None:
    assert _clip(TEXT, "dinner friends lake", 2) == f"{LAKE} … {DINNER}"


def test_neighbouring_sentences_need_no_gap() -> None:
    assert _clip(TEXT, "lake dog", 2) == f"{LAKE} {DOG}"


def test_of_equal_sentences_the_first_is_kept() -> None:
    assert _clip(TEXT, "spaceship") == LAKE


def test_a_short_sentence_counts_as_one_with_the_next() -> None:
    """ "Yes." answers nothing without what follows."""
    assert _clip(f"{LAKE} Yes. In June. {DOG}", "June") == f"Yes. In June. {DOG}"


def test_a_short_text_is_whole() -> None:
    assert _clip("Yes. In June.", "anything") == "Yes. In June."


def test_chinese_sentences_end_without_a_space() -> None:
    first = "今天天气很好，" * 10 + "我们去公园。"
    second = "我的猫叫咪咪，" * 10 + "它喜欢吃鱼。"

    assert _clip(first + second, "猫") == second


def test_a_text_without_an_end_is_cut_between_words() -> None:
    text = "word " * 500 + "needle " + "word " * 500

    clipped = _clip(text, "needle")

    assert "needle" in clipped
    assert len(clipped) <= 600
    assert set(clipped.split()) == {"word", "needle"}


@given(st.text(), st.integers(1, 3))
def test_clipping_only_leaves_out(text: str, sentences: int) -> None:
    clipped = _clip(text, "anything", sentences)

    assert set("".join(clipped.split())) <= {*text, "…"}
    assert len(clipped) <= len(text) + sentences * 2 + text.count("\n") + text.count("。")


def test_a_text_of_blanks_is_not_looked_at_again_and_again() -> None:
    """Every stream waits while one text is clipped."""
    began = thread_time()

    _clip("a" + " " * 20_000 + "b", "anything")

    assert thread_time() - began < 0.2
