"""Language-model backends: one adapter call is one attempt, retry and fallback wrap it."""

from __future__ import annotations

from typing import Protocol

from services.events import Batches
from services.turn import Prompt


class Provider(Protocol):
    """A language-model backend, or a wrapper round one."""

    @property
    def name(self) -> str:
        """The provider's name in telemetry and logs, such as `openai`."""
        ...

    def stream(self, prompt: Prompt) -> Batches:
        """Answer *prompt*: batches of `Attempt`, `Connected`, `TextDelta`, `Usage`, and a last one that ends with `Finish`.

        `Retry` comes from wrappers. Raises `ProviderError`, and nothing else that is foreseeable;
        when `prompt.deadline` comes first, `ProviderTimeout` (phase `total`). Closing the
        generator, or cancelling the task that iterates it, closes the socket.
        """
        ...
