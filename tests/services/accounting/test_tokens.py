from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tokens import Tokenizer
from services.turn import Message, Prompt


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Loaded once: it takes a second."""
    loaded = Tokenizer()
    asyncio.run(loaded.load())
    return loaded


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("antidisestablishmentarianism", 6),
        ("2 + 2 = 4", 7),
        ("お誕生日おめでとう", 8),
    ],
)
def test_texts_have_the_tokens_that_openai_counts(
    tokenizer: Tokenizer, text: str, tokens: int
) -> None:
    """OpenAI's published examples for `o200k_base` ("How to count tokens with tiktoken")."""
    assert tokenizer.count(text) == tokens


def test_the_name_of_a_special_token_is_text(tokenizer: Tokenizer) -> None:
    """It must not raise because a user wrote it."""
    assert tokenizer.count("<|endoftext|>") == 7


@given(st.text())
def test_no_text_makes_counting_raise(tokenizer: Tokenizer, text: str) -> None:
    for counter in (tokenizer, Tokenizer()):
        assert counter.count(text) <= len(text.encode("utf-8", "replace"))
        assert bool(counter.count(text)) == bool(text)


def test_half_a_character_counts_as_one(tokenizer: Tokenizer) -> None:
    assert tokenizer.count("\ud800") == 1


@pytest.mark.parametrize(
    "text", ["a" * 100_000, " " * 100_000, "ab" * 2_000_000, "漢" * 4_000_000, "\\" * 4_000_000]
)
def test_no_text_holds_up_the_loop(tokenizer: Tokenizer, text: str) -> None:
    """Streams wait while a text is counted; it takes some 5 ms, and the bound allows for a slow one."""
    started = time.thread_time()

    tokens = tokenizer.count(text)

    assert time.thread_time() - started < 0.25
    assert tokens > 0


def test_a_very_long_text_is_judged_by_its_beginning(tokenizer: Tokenizer) -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 10_000

    assert tokenizer.count(text) == pytest.approx(100_000, rel=0.01)


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("é", 1), ("😀😀", 2)]
)
def test_without_the_vocabulary_a_token_is_four_bytes(text: str, tokens: int) -> None:
    tokenizer = Tokenizer()

    assert not tokenizer.exact
    assert tokenizer.count(text) == tokens


def test_a_prompt_counts_as_openai_counts_it(tokenizer: Tokenizer) -> None:
    """Three tokens round each message and one for its role, and three that open the answer."""
    prompt = Prompt("hello", (Message("user", "hello"), Message("assistant", "Hello, world!")))

    assert tokenizer.count_prompt(prompt) == 3 + (4 + 1) + (4 + 1) + (4 + 4)


def test_a_prompt_without_instructions_has_no_message_for_them(tokenizer: Tokenizer) -> None:
    assert tokenizer.count_prompt(Prompt("", (Message("user", "hello"),))) == 3 + (4 + 1)


def test_loading_leaves_the_loop_free() -> None:
    """In a process of its own: the package loads once in each.

    A busy machine makes gaps, and takes none away: once without a long one is enough.
    """

    def longest_gap() -> float:
        """As part of the whole."""
        done = subprocess.run(
            [sys.executable, "-c", _LOAD],
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        whole, longest = map(float, done.stdout.split())
        return longest / whole

    assert any(longest_gap() < 0.5 for _ in range(5))


_LOAD = """
import asyncio
import time
from services.tokens import Tokenizer

async def main():
    tokenizer, times = Tokenizer(), [time.perf_counter()]
    loading = asyncio.create_task(tokenizer.load())
    while not loading.done():
        await asyncio.sleep(0.001)
        times.append(time.perf_counter())
    assert tokenizer.exact
    print(times[-1] - times[0], max(b - a for a, b in zip(times, times[1:])))

asyncio.run(main())
"""
