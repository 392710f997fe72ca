"""Providers as they are put together: adapter, faults, retry, fallback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

from services.providers import Provider
from services.providers.anthropic import Anthropic
from services.providers.fallback import Fallback
from services.providers.faults import FaultInjection
from services.providers.openai import OpenAI
from services.providers.retry import Retrying
from services.providers.scripted import Stub
from services.providers.transport import Transport, proxy_for
from services.telemetry.metrics import MetricsSink


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """Which provider, and how patient with it; times in seconds."""

    name: Literal["openai", "anthropic", "stub"]
    api_key: str
    base_url: str
    model: str
    max_output_tokens: int
    temperature: float | None
    max_sockets: int
    connect_timeout: float
    first_token_timeout: float
    idle_timeout: float
    total_timeout: float
    max_retries: int
    retry_base: float


@asynccontextmanager
async def open_providers(
    choices: Sequence[ProviderOptions], metrics: MetricsSink
) -> AsyncIterator[Provider]:
    """One provider made of *choices*, each retried, in fallback order; open while the block runs."""
    async with AsyncExitStack() as stack:
        providers = [await _open(options, metrics, stack) for options in choices]
        if len(providers) == 1:
            yield providers[0]
            return
        total_timeout = max(options.total_timeout for options in choices)
        fallback = Fallback(providers, total_timeout=total_timeout)
        for name, breaker in fallback.breakers.items():
            metrics.register(
                f"chat_{name}_breaker_open",
                "Whether turns pass the provider by.",
                partial(getattr, breaker, "is_open"),
            )
        yield fallback


async def _open(options: ProviderOptions, metrics: MetricsSink, stack: AsyncExitStack) -> Provider:
    adapter: Provider
    if options.name == "stub":
        adapter = Stub(model=options.model)
    else:
        transport = Transport(
            options.name,
            max_sockets=options.max_sockets,
            connect_timeout=options.connect_timeout,
            first_token_timeout=options.first_token_timeout,
            idle_timeout=options.idle_timeout,
            proxy=proxy_for(options.base_url),
        )
        _publish(await stack.enter_async_context(transport), metrics)
        dialect = OpenAI if options.name == "openai" else Anthropic
        adapter = dialect(
            transport,
            api_key=options.api_key,
            model=options.model,
            base_url=options.base_url,
            max_output_tokens=options.max_output_tokens,
            temperature=options.temperature,
        )
    return Retrying(
        FaultInjection(adapter, model=options.model),
        max_retries=options.max_retries,
        base=options.retry_base,
        total_timeout=options.total_timeout,
    )


def _publish(transport: Transport, metrics: MetricsSink) -> None:
    name = transport.provider
    metrics.register(f"chat_{name}_sockets", "Sockets in use.", lambda: transport.open)
    for counter, documentation, read in (
        ("pool_hits", "Requests on a pooled socket.", lambda: transport.pool_hits),
        ("connects", "Connections made.", lambda: transport.connects),
        ("stale_sockets", "Pooled sockets found closed.", lambda: transport.stale_sockets),
        ("overflows", "Connections beyond the pool.", lambda: transport.overflows),
        ("connect_seconds", "Time spent connecting.", lambda: transport.connect_seconds),
    ):
        metrics.register(f"chat_{name}_{counter}", documentation, read, kind="counter")
