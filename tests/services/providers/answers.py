"""Reading a provider to its end."""

from __future__ import annotations

from services.errors import ProviderError
from services.events import Batch, Connected, Event, TextDelta
from services.providers import Provider
from services.turn import Prompt


async def batches_of(provider: Provider, prompt: Prompt) -> list[Batch]:
    return [batch async for batch in provider.stream(prompt)]


async def events_of(provider: Provider, prompt: Prompt) -> list[Event]:
    """All events but `Connected`, whose duration no test can know."""
    batches = await batches_of(provider, prompt)
    return [event for batch in batches for event in batch if not isinstance(event, Connected)]


async def text_of(provider: Provider, prompt: Prompt) -> str:
    events = await events_of(provider, prompt)
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def failure_of(provider: Provider, prompt: Prompt) -> tuple[str, ProviderError]:
    """What was said before the failure, and the failure."""
    said = ""
    try:
        async for batch in provider.stream(prompt):
            said += "".join(event.text for event in batch if isinstance(event, TextDelta))
    except ProviderError as error:
        return said, error
    raise AssertionError(f"it did not fail, and said {said!r}")
