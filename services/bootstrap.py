"""The composition root: settings in, running services out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.chat import Background, Chat
from services.chat_stream import EventHook
from services.heartbeat import HeartbeatWheel
from services.identity import Identity
from services.providers import Provider
from services.providers.faults import FaultInjection
from services.providers.retry import Retrying
from services.providers.scripted import Stub
from services.report import Accountant, Report
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
    heartbeat = HeartbeatWheel(seconds(settings.streams.openai_sse_heartbeat_ms))
    heartbeat.start()
    provider = provider or Retrying(FaultInjection(Stub(model=settings.openai.model)))
    streams = Streams(
        Chat(provider, _NoContext(), system_prompt=settings.chat.system_prompt).answer,
        Accountant(_T(), _T()),
        default_model=settings.openai.model,
        admit=_admit,
        hooks=hooks,
        policy=Policy(
            grace=seconds(settings.streams.stream_resume_grace_ms),
            retention=seconds(settings.streams.stream_retention_ms),
            max_stream_bytes=settings.streams.stream_max_bytes,
            max_log_bytes=settings.streams.stream_log_bytes,
        ),
    )
    secret = settings.auth.secret
    try:
        yield Services(
            identity=Identity(
                None if secret is None else secret.get_secret_value(),
                settings.auth.audience,
                settings.jwt_issuer,
            ),
            streams=streams,
            heartbeat=heartbeat,
        )
    finally:
        heartbeat.stop()


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
