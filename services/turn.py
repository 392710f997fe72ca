"""A turn: one user message and everything asked for with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import dropwhile, groupby
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One thing that was said. Its fields are named as in every provider's dialect."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Turn:
    """One user message, who sent it, and how it wants to be answered.

    Middleware may keep what it remembers of a turn in a `WeakKeyDictionary` by turn.

    `scenario` names a failure to play instead of asking a provider (see
    `services/providers/faults.py`); None everywhere but in tests of failures.
    """

    request_id: str
    user_id: str
    message: str
    session_id: str | None = None
    use_memory: bool = False
    resumable: bool = False
    scenario: str | None = None
    asked_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent to a provider: instructions, then messages, oldest first.

    The last message is the user's. `system` may be empty. `deadline` is the event loop's time at
    which the answer must be complete; whoever waits for a provider keeps it.
    """

    system: str
    messages: tuple[Message, ...]
    scenario: str | None = None
    deadline: float | None = None

    @property
    def question(self) -> str:
        """The user's message, the last one."""
        return self.messages[-1].content

    @property
    def alternating(self) -> tuple[Message, ...]:
        """The messages, the user's first, with what one role said in a row as one message.

        Two of the user's follow each other when the first got no answer. OpenAI takes them, Anthropic
        joins them itself (https://docs.anthropic.com/en/api/messages), but the chat templates
        of many models that servers with OpenAI's dialect run refuse them, then and in each turn after.
        """
        opened = dropwhile(lambda said: said.role != "user", self.messages)
        return tuple(
            Message(role, "\n\n".join(message.content for message in said))
            for role, said in groupby(opened, key=lambda message: message.role)
        )
