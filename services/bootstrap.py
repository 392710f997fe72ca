"""The composition root: settings in, running services out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from databases import Database

from services.chat import Chat
from services.context import ConversationContext
from services.identity import Identity
from services.jwks import open_keys
from services.limits.admission import Admission
from services.limits.ledger_redis import RedisLedger
from services.limits.limiter import open_limits
from services.memory import Memory
from services.memory.embedded import EmbeddedMemory
from services.memory.recall import Recall
from services.memory.zep import ZepMemory
from services.memory.zep_api import open_zep_api
from services.options import (
    named_parts,
    policy,
    prices,
    provider_options,
    quotas,
    recall_policy,
    revealed,
    worst_case,
)
from services.providers import Provider
from services.providers.build import open_providers
from services.redis_client import answers, open_redis
from services.report import Accountant
from services.storage.archive import Archive
from services.storage.conversations import Conversations
from services.storage.database import open_database
from services.streaming.archive import open_archive
from services.streaming.chat_stream import ChatStream
from services.streaming.heartbeat import HeartbeatWheel
from services.streaming.hooks import EventHook
from services.streaming.store_redis import open_shared_streams
from services.streaming.streams import Streams
from services.telemetry import TelemetrySink
from services.telemetry.database import DatabaseSink
from services.telemetry.metrics import MetricsSink
from services.telemetry.tee import Tee
from services.together import Together
from services.tokens import Tokenizer
from settings import Settings, seconds

# How long a start waits to learn whether Redis is there, in seconds.
REDIS_PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers and middleware can ask for; `parts` names what it is made of, for the log."""

    identity: Identity
    admission: Admission
    streams: Streams
    heartbeat: HeartbeatWheel
    conversations: Conversations
    archive: Archive
    metrics: MetricsSink
    parts: Mapping[str, str]


@asynccontextmanager
async def open_services(
    settings: Settings,
    *,
    provider: Provider | None = None,
    memory: Memory | None = None,
    telemetry: TelemetrySink | None = None,
    hooks: Sequence[EventHook] = (),
) -> AsyncIterator[Services]:
    """Everything running and connected, for as long as the block runs.

    A part that is given takes the place of the one that *settings* ask for. Leaving ends what still
    runs, in the reverse order. Raises `BadSetting`, and `DatabaseUnavailable`.
    """
    async with AsyncExitStack() as stack:
        opening = _Opening(settings, stack)
        database = await stack.enter_async_context(
            open_database(settings.storage.database_url.get_secret_value())
        )
        tokenizer = opening.tokenizer()
        accountant = Accountant(tokenizer, prices(settings))
        remembering = memory or await opening.memory(database)
        # Left before what they write to is closed, and after whoever may give them something has ended.
        await stack.enter_async_context(opening.queues)
        sink = Tee(telemetry or await opening.telemetry(database), opening.metrics)
        conversations = Conversations(database, count=tokenizer.count)
        archive = await opening.archive(conversations, remembering)
        yield Services(
            identity=await opening.identity(),
            admission=await opening.admission(accountant),
            streams=await opening.streams(
                provider or await opening.provider(),
                opening.context(archive, tokenizer),
                accountant,
                database,
                hooks=hooks,
                sink=sink,
                archive=archive,
            ),
            heartbeat=opening.heartbeat(),
            conversations=conversations,
            archive=archive,
            metrics=opening.metrics,
            parts=opening.parts,
        )


class _Opening:
    """Opens one part after the other; *stack* closes them in reverse, the queues at one time.

    Each queue may need all of its patience at the end, if the database is away.
    """

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self.metrics = MetricsSink()
        self.queues = Together()
        self.parts = named_parts(settings)
        self._settings = settings
        self._stack = stack

    def tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer()
        loading = asyncio.create_task(tokenizer.load(), name="tokenizer")
        # Its thread can't be stopped, and must not outlive the loop.
        self._stack.push_async_callback(asyncio.wait, {loading})
        return tokenizer

    async def telemetry(self, database: Database) -> TelemetrySink:
        rows = await self.queues.enter(DatabaseSink(database).writing())
        self._publish_queue("telemetry", rows)
        return rows

    async def memory(self, database: Database) -> Memory:
        zep = self._settings.zep
        if zep.api_key is None:
            return EmbeddedMemory(database)
        api = open_zep_api(zep.api_key.get_secret_value(), zep.base_url)
        return ZepMemory(database, await self._stack.enter_async_context(api))

    async def archive(self, conversations: Conversations, memory: Memory) -> Archive:
        archive = Archive(conversations, memory)
        await self.queues.enter(archive.writing())
        self._publish_queue("archive", archive)
        return archive

    def context(self, archive: Archive, tokenizer: Tokenizer) -> ConversationContext:
        recall = Recall(archive, recall_policy(self._settings), count=tokenizer.count)
        self._stack.push_async_callback(recall.close)
        return ConversationContext(
            archive, recall, history_budget=self._settings.chat.history_token_budget
        )

    async def identity(self) -> Identity:
        settings, url = self._settings, self._settings.jwks_url
        keys = None if url is None else await self._stack.enter_async_context(open_keys(url))
        return Identity(
            revealed(settings.jwt_secret), settings.auth.audience, settings.jwt_issuer, keys
        )

    async def provider(self) -> Provider:
        options = provider_options(self._settings)
        return await self._stack.enter_async_context(open_providers(options, self.metrics))

    def heartbeat(self) -> HeartbeatWheel:
        wheel = HeartbeatWheel(seconds(self._settings.streams.openai_sse_heartbeat_ms))
        wheel.start()
        self._stack.callback(wheel.stop)
        self.metrics.register("chat_connections", "Connections being read.", lambda: len(wheel))
        return wheel

    async def admission(self, accountant: Accountant) -> Admission:
        allowed, redis, ledger = quotas(self._settings), self._settings.storage.redis_url, None
        if redis is not None:
            client = await self._stack.enter_async_context(open_redis(redis.get_secret_value()))
            # Not needed to start: limits and streams are this process's own until it is there.
            reachable = await answers(client, patience=REDIS_PATIENCE)
            self.parts["redis"] = "reachable" if reachable else "unreachable"
            ledger = RedisLedger(client, allowed)
        limits = await self._stack.enter_async_context(open_limits(allowed, ledger))
        return Admission(limits, worst_case(self._settings, accountant))

    async def streams(
        self,
        provider: Provider,
        context: ConversationContext,
        accountant: Accountant,
        database: Database,
        *,
        hooks: Sequence[EventHook],
        sink: TelemetrySink,
        archive: Archive,
    ) -> Streams:
        settings, enter = self._settings, self._stack.enter_async_context
        retention = seconds(settings.streams.stream_retention_ms)
        redis, shared = settings.storage.redis_url, None
        if redis is not None:
            shared = await enter(open_shared_streams(redis.get_secret_value(), retention=retention))

        def observe(stream: ChatStream) -> None:
            for event in stream.report.telemetry():
                sink.record(event)
            if (finish := stream.report.finish) and not stream.erased:
                archive.keep(stream.turn, stream.text, finish_reason=finish.reason)

        streams = Streams(
            Chat(provider, context, system_prompt=settings.chat.system_prompt).answer,
            accountant,
            default_model=provider_options(settings)[0].model,
            hooks=hooks,
            observers=[observe],
            policy=policy(settings),
            archive=await self.queues.enter(open_archive(database, retention=retention)),
            shared=shared,
        )
        self.metrics.register("chat_streams", "Streams that run now.", lambda: len(streams))
        self.metrics.register(
            "chat_tasks", "Tasks of the event loop.", lambda: len(asyncio.all_tasks())
        )
        self.metrics.register(
            "chat_log_bytes", "Bytes all stream logs hold.", lambda: streams.held_bytes
        )
        return streams

    def _publish_queue(self, name: str, queue: DatabaseSink | Archive) -> None:
        self.metrics.register(f"chat_{name}_waiting", "Rows not yet written.", lambda: queue.depth)
        self.metrics.register(
            f"chat_{name}_dropped",
            "Rows that will never be written.",
            lambda: queue.dropped,
            kind="counter",
        )
