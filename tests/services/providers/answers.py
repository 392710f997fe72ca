"""Reading a provider to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from patience import PATIENCE

from services.errors import ProviderError
from services.events import Attempt, Batch, Batches, Connected, Event, Offer, TextDelta
from services.providers import Provider
from services.providers.openai import OpenAI
from services.providers.transport import Transport
from services.turn import Prompt


class Reading:
    """Whether offers to push are taken, as the service does, or passed by; see the fixture `reading`."""

    takes_offers = False


async def batches_of(provider: Provider, prompt: Prompt) -> list[Batch]:
    seen: list[Batch] = []
    await _read(provider.stream(prompt), seen.append)
    return seen


async def events_of(provider: Provider, prompt: Prompt) -> list[Event]:
    """All events but `Attempt`, and `Connected`, whose duration no test can know."""
    batches = await batches_of(provider, prompt)
    events = [event for batch in batches for event in batch]
    return [event for event in events if not isinstance(event, Attempt | Connected)]


async def text_of(provider: Provider, prompt: Prompt) -> str:
    events = await events_of(provider, prompt)
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def failed_events(provider: Provider, prompt: Prompt) -> tuple[list[Event], ProviderError]:
    """What happened before the failure, and the failure."""
    events: list[Event] = []
    try:
        await _read(provider.stream(prompt), events.extend)
    except ProviderError as error:
        return events, error
    raise AssertionError(f"it did not fail: {events}")


async def failure_of(provider: Provider, prompt: Prompt) -> tuple[str, ProviderError]:
    """What was said before the failure, and the failure."""
    events, error = await failed_events(provider, prompt)
    return "".join(event.text for event in events if isinstance(event, TextDelta)), error


async def settled(transport: Transport) -> None:
    """Wait until the bodies of finished answers have ended, and their sockets are free."""
    await until(lambda: transport.open == 0)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that nobody announces."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - it happens in callbacks of aiohttp
            await asyncio.sleep(0)


async def collect(provider: Provider, prompt: Prompt, seen: list[Event]) -> None:
    """Append all events to *seen* as they come."""
    await _read(provider.stream(prompt), seen.extend)


async def _read(batches: Batches, take: Callable[[Batch], None]) -> None:
    async with aclosing(batches):
        async for batch in batches:
            take(batch)
            if Reading.takes_offers and isinstance(batch, Offer):
                await batch.push(take)


def openai_at(transport: Transport, url: str) -> OpenAI:
    """OpenAI's dialect at *url*."""
    return OpenAI(transport, api_key="k", model="gpt-4o-mini", base_url=url)
