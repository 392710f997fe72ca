"""The stub provider: a script instead of a model, for a service without a key."""

from __future__ import annotations

import asyncio

from services.events import Batches, Connected, Finish, TextDelta, Usage
from services.providers.failures import timed_out
from services.turn import Prompt

_CLOSING_LINE = "This is a stub response for Phase 4."
_TOKENS_OUT = 15


class Stub:
    """Answers every question with the guide's two lines, and tells a long story when asked for one.

    The story takes *story_duration* seconds, word by word, so that heartbeats can be watched.
    """

    def __init__(self, *, model: str = "gpt-4o-mini", story_duration: float = 25.0) -> None:
        self._model = model
        self._story_duration = story_duration

    @property
    def name(self) -> str:
        """`stub`."""
        return "stub"

    def stream(self, prompt: Prompt) -> Batches:
        """The script for *prompt*; only the deadline can cut it short."""
        if "long story" in prompt.question.lower():
            return self.story(prompt)
        return self._echo(prompt)

    async def story(self, prompt: Prompt) -> Batches:
        """A story, one word at a time, at an even pace."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        words = [f"{word} " for word in _STORY.split()]
        yield (Connected(self.name, self._model, 0.0),)
        for told, word in enumerate(words, 1):
            yield (TextDelta(word),)
            await asyncio.sleep(began + self._story_duration * told / len(words) - loop.time())
            if prompt.deadline is not None and loop.time() >= prompt.deadline:
                raise timed_out(self.name, "total")
        yield (self._usage(prompt, _tokens(len("".join(words)))), Finish("stop"))

    async def _echo(self, prompt: Prompt) -> Batches:
        yield (
            Connected(self.name, self._model, 0.0),
            TextDelta(f'I understand you said: "{prompt.question}". '),
            TextDelta(_CLOSING_LINE),
            self._usage(prompt, _TOKENS_OUT),
            Finish("stop"),
        )

    def _usage(self, prompt: Prompt, tokens_out: int) -> Usage:
        return Usage(_tokens(len(prompt.question)), tokens_out, self._model)


def _tokens(characters: int) -> int:
    return -(-characters // 4)


_STORY = """
The lighthouse at Merrow Point had been dark for eleven years when Ines rowed out to it with a
toolbox, a thermos, and a cat who had not been invited. The harbour council had voted to pull the
tower down in spring. Nobody had asked the tower, Ines said, and nobody laughed, so she went alone.
The stairs counted one hundred and forty, and the cat counted them twice. At the top the great lens
stood under a sheet of dust, like a word somebody had decided not to say. She wiped one pane. Then,
since it would have been rude to stop, she wiped the other four hundred and eleven. It took until
evening. The clockwork that once turned the lamp had lost a single gear, no bigger than a biscuit,
and in its place someone had left a note: gone for a spare, back by supper. The note was signed by
her grandfather, who had rowed out for that spare on a calm day and was never late before or since.
Ines read it in the last of the light. She filed a new gear from the lid of the thermos, tooth by
tooth, while the cat kept the screws from wandering. Near midnight the mechanism took one breath,
and another, and began to walk its slow circle. She lit the lamp. Far out, where the charts show
nothing but depth, a small boat that had been waiting for a bearing turned its bow toward home.
In the morning the council came to look at the light, found two people having breakfast under it,
and quietly put the spring vote back into its drawer.
"""
