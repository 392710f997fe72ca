"""How many tokens a text is, counted here, for when no provider says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Final

from loguru import logger

from services.steps import Steps
from services.turn import Prompt

# OpenAI wraps every message in three tokens besides its role's one, and opens the answer with three:
# https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken
_PER_MESSAGE: Final = 4
_PER_PROMPT: Final = 3

_BYTES_PER_TOKEN: Final = 4
# Counting takes some 50 ns a character and holds up every stream meanwhile. What is longer is
# judged by its beginning.
_MOST_CHARACTERS: Final = 100_000
# A piece takes some 0.3 ms. Pieces end where a word does, if there are words: of an answer of 27,202 tokens
# three were cut, and counted twice.
_PIECES: Final = re.compile(r".{1,5000}\S{0,50}", re.DOTALL)


class Tokenizer:
    """Counts tokens as current OpenAI models do (`o200k_base`); close enough for others.

    Until `load` has finished, or if `bpe-openai` is not installed, a token is four bytes.
    """

    def __init__(self) -> None:
        self._encode: Callable[[str], Sequence[int]] | None = None

    @property
    def exact(self) -> bool:
        """Whether the vocabulary is loaded."""
        return self._encode is not None

    async def load(self) -> None:
        """Load the vocabulary, in a thread: it takes about a second."""
        try:
            self._encode = await asyncio.to_thread(_o200k_base)
        except ImportError:
            logger.warning("Tokenizer not installed, tokens are estimated from bytes")

    def count(self, text: str) -> int:
        """The tokens of *text*. Never raises."""
        sample = text[:_MOST_CHARACTERS]
        tokens = self._count(sample)
        return tokens if sample == text else _of_all(text, tokens, len(sample))

    def count_prompt(self, prompt: Prompt) -> int:
        """The tokens a provider counts for *prompt*: its texts, and what it wraps them in."""
        texts = [message.content for message in prompt.messages]
        if prompt.system:
            texts.append(prompt.system)
        return _PER_PROMPT + sum(_PER_MESSAGE + self.count(text) for text in texts)

    def _count(self, text: str) -> int:
        # Half of a surrogate pair is no character, and has no UTF-8.
        data = text.encode("utf-8", "replace")
        if self._encode is None:
            return -(-len(data) // _BYTES_PER_TOKEN)
        return len(self._encode(data.decode("utf-8")))


def count_in_steps(count: Callable[[str], int], text: str) -> Steps[int]:
    """What *count* finds in *text*, piece by piece; as `Tokenizer.count` does, it judges a long text by its beginning."""
    tokens = counted = 0
    for piece in _PIECES.finditer(text):
        if counted >= _MOST_CHARACTERS:
            return _of_all(text, tokens, counted)
        tokens += count(piece[0])
        counted += len(piece[0])
        yield
    return tokens


def _of_all(text: str, tokens: int, characters: int) -> int:
    """How many tokens *text* has if so many of its *characters* have *tokens*: rounded up, in whole numbers."""
    return -(-tokens * len(text) // characters)


def _o200k_base() -> Callable[[str], Sequence[int]]:
    import bpe_openai

    # Not `encode`: it raises when a user writes `<|endoftext|>`.
    encode: Callable[[str], Sequence[int]] = bpe_openai.get_encoding("o200k_base").encode_ordinary
    return encode
