"""The composition root: settings in, running services out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from loguru import logger
from pydantic import SecretStr

from services.chat import Background, Chat
from services.chat_stream import ChatStream, EventHook
from services.database import open_database
from services.heartbeat import HeartbeatWheel
from services.identity import Identity
from services.pricing import BadPriceFile, Prices
from services.providers import Provider
from services.providers.build import ProviderOptions, open_providers
from services.report import Accountant, Report
from services.streams import Policy, Streams, TurnObserver
from services.telemetry import TelemetrySink
from services.telemetry.database import DatabaseSink
from services.telemetry.metrics import MetricsSink
from services.telemetry.tee import Tee
from services.tokens import Tokenizer
from services.turn import Turn
from settings import BadSetting, Settings, seconds


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers and middleware can ask for."""

    identity: Identity
    streams: Streams
    heartbeat: HeartbeatWheel
    metrics: MetricsSink


@asynccontextmanager
async def open_services(
    settings: Settings,
    *,
    provider: Provider | None = None,
    telemetry: TelemetrySink | None = None,
    hooks: Sequence[EventHook] = (),
) -> AsyncIterator[Services]:
    """Everything running and connected, for as long as the block runs.

    A part that is given takes the place of the one that *settings* ask for. Leaving ends what still
    runs, in the reverse order. Raises `BadSetting`, and `DatabaseUnavailable`.
    """
    async with AsyncExitStack() as stack:
        metrics = MetricsSink()
        database = await stack.enter_async_context(
            open_database(settings.storage.database_url.get_secret_value())
        )
        if telemetry is None:
            rows = await stack.enter_async_context(DatabaseSink(database).writing())
            metrics.register("chat_telemetry_waiting", "Rows not yet written.", lambda: rows.depth)
            metrics.register(
                "chat_telemetry_dropped",
                "Rows that could not be written.",
                lambda: rows.dropped,
                kind="counter",
            )
            telemetry = rows
        if provider is None:
            provider = await stack.enter_async_context(
                open_providers(_provider_options(settings), metrics)
            )
        tokenizer = Tokenizer()
        loading = asyncio.create_task(tokenizer.load(), name="tokenizer")
        stack.push_async_callback(_settled, loading)

        sink = Tee(telemetry, metrics)
        streams = Streams(
            Chat(provider, _NoContext(), system_prompt=settings.chat.system_prompt).answer,
            Accountant(tokenizer, _prices(settings)),
            default_model=settings.openai.model,
            admit=_admit,
            hooks=hooks,
            observers=[_recorder(sink)],
            policy=_policy(settings),
        )
        metrics.register("chat_streams", "Streams that run now.", lambda: len(streams))
        heartbeat = HeartbeatWheel(seconds(settings.streams.openai_sse_heartbeat_ms))
        metrics.register("chat_connections", "Connections being read.", lambda: len(heartbeat))
        heartbeat.start()
        stack.callback(heartbeat.stop)
        yield Services(
            identity=Identity(
                _revealed(settings.auth.secret), settings.auth.audience, settings.jwt_issuer
            ),
            streams=streams,
            heartbeat=heartbeat,
            metrics=metrics,
        )


def _provider_options(settings: Settings) -> list[ProviderOptions]:
    options = []
    for name in settings.providers:
        section = settings.anthropic if name == "anthropic" else settings.openai
        options.append(
            ProviderOptions(
                name=name,
                api_key=_revealed(section.api_key) or "",
                base_url=section.base_url,
                model=section.model,
                max_output_tokens=section.max_output_tokens,
                temperature=section.temperature,
                max_sockets=section.max_sockets,
                connect_timeout=seconds(section.connect_timeout_ms),
                first_token_timeout=seconds(section.first_token_timeout_ms),
                idle_timeout=seconds(section.idle_timeout_ms),
                total_timeout=seconds(section.total_timeout_ms),
                max_retries=section.max_retries,
                retry_base=seconds(section.retry_base_ms),
            )
        )
    if settings.production and settings.providers == ("stub",):
        logger.warning("No provider has a key: the stub answers")
    return options


def _policy(settings: Settings) -> Policy:
    return Policy(
        grace=seconds(settings.streams.stream_resume_grace_ms),
        retention=seconds(settings.streams.stream_retention_ms),
        max_stream_bytes=settings.streams.stream_max_bytes,
        max_log_bytes=settings.streams.stream_log_bytes,
    )


def _prices(settings: Settings) -> Prices:
    if settings.chat.price_file is None:
        return Prices()
    try:
        return Prices.load(Path(settings.chat.price_file))
    except BadPriceFile as exc:
        raise BadSetting(f"PRICE_FILE: {exc}") from exc


def _recorder(sink: TelemetrySink) -> TurnObserver:
    def record(stream: ChatStream) -> None:
        for event in stream.report.telemetry():
            sink.record(event)

    return record


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


async def _settled(task: asyncio.Task[None]) -> None:
    """Wait for *task*, whose thread can't be stopped, so that it does not outlive the loop."""
    await asyncio.wait({task})


class _NoContext:
    async def background(self, turn: Turn) -> Background:
        return Background()


class _Free:
    def release(self, report: Report) -> None:
        pass


async def _admit(turn: Turn) -> _Free:
    return _Free()
