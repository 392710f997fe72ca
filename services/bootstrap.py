"""The composition root: settings in, running services out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from services.chat import Background, Chat
from services.chat_stream import EventHook
from services.database import open_database
from services.heartbeat import HeartbeatWheel
from services.identity import Identity
from services.providers import Provider
from services.providers.faults import FaultInjection
from services.providers.retry import Retrying
from services.providers.scripted import Stub
from services.report import Accountant, Report
from services.stream_archive import open_archive
from services.stream_store import Archive, SharedStreams
from services.stream_store_redis import open_shared_streams
from services.streams import Policy, Streams
from services.turn import Turn
from settings import Settings, seconds


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers and middleware can ask for."""

    identity: Identity
    streams: Streams
    heartbeat: HeartbeatWheel


@asynccontextmanager
async def open_services(
    settings: Settings,
    *,
    provider: Provider | None = None,
    hooks: Sequence[EventHook] = (),
) -> AsyncIterator[Services]:
    """Everything running and connected, for as long as the block runs.

    A part that is given takes the place of the one that *settings* ask for. Leaving ends what still
    runs, in the reverse order.
    """
    async with AsyncExitStack() as stack:
        archive, shared = await _stores(settings, stack)
        yield _services(settings, provider, hooks, archive, shared, stack)


async def _stores(
    settings: Settings, stack: AsyncExitStack
) -> tuple[Archive, SharedStreams | None]:
    """Where streams outlive their process, and are shared with others if there are any."""
    retention = seconds(settings.streams.stream_retention_ms)
    url = settings.storage.database_url.get_secret_value()
    database = await stack.enter_async_context(open_database(url))
    archive = await stack.enter_async_context(open_archive(database, retention=retention))
    if settings.storage.redis_url is None:
        return archive, None
    redis = settings.storage.redis_url.get_secret_value()
    return archive, await stack.enter_async_context(open_shared_streams(redis, retention=retention))


def _services(
    settings: Settings,
    provider: Provider | None,
    hooks: Sequence[EventHook],
    archive: Archive,
    shared: SharedStreams | None,
    stack: AsyncExitStack,
) -> Services:
    heartbeat = HeartbeatWheel(seconds(settings.streams.openai_sse_heartbeat_ms))
    heartbeat.start()
    stack.callback(heartbeat.stop)
    provider = provider or Retrying(FaultInjection(Stub(model=settings.openai.model)))
    streams = Streams(
        Chat(provider, _NoContext(), system_prompt=settings.chat.system_prompt).answer,
        Accountant(_T(), _T()),
        default_model=settings.openai.model,
        admit=_admit,
        hooks=hooks,
        archive=archive,
        shared=shared,
        policy=Policy(
            grace=seconds(settings.streams.stream_resume_grace_ms),
            retention=seconds(settings.streams.stream_retention_ms),
            max_stream_bytes=settings.streams.stream_max_bytes,
            max_log_bytes=settings.streams.stream_log_bytes,
        ),
    )
    secret = settings.auth.secret
    return Services(
        identity=Identity(
            None if secret is None else secret.get_secret_value(),
            settings.auth.audience,
            settings.jwt_issuer,
        ),
        streams=streams,
        heartbeat=heartbeat,
    )


class _NoContext:
    async def background(self, turn: Turn) -> Background:
        return Background()


class _Free:
    def release(self, report: Report) -> None:
        pass


async def _admit(turn: Turn) -> _Free:
    return _Free()


class _T:
    def count(self, text):
        return len(text) // 4

    def count_prompt(self, p):
        return 1

    def cost(self, model, i, o, *, cached=0):
        from decimal import Decimal

        return Decimal(i) * Decimal("0.00000015") + Decimal(o) * Decimal("0.0000006")
