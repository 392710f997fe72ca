"""Every setting, one frozen section per concern; a field's environment variable is prefix + FIELD.

Durations are `_ms` integers here, as on the wire; code reads them as float seconds through
`seconds()`. Every field has a description: `docs/configuration.md` is generated from them.
"""

from __future__ import annotations

from typing import ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from settings.values import (
    BaseUrl,
    Count,
    DatabaseUrl,
    HeaderSecret,
    LogLevel,
    Milliseconds,
    OptionalFile,
    Origin,
    Patience,
    PluginName,
    RedisUrl,
    TokenBudget,
    Url,
)

DEVELOPMENT_SECRET = "placeholder-jwt-secret-with-at-least-32-characters"  # noqa: S105 - the guide's, refused in production


class Section(BaseModel):
    """A group of settings that share an environment prefix."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: ClassVar[str] = ""
    title: ClassVar[str] = ""


class Server(Section):
    """The process: where it listens, how patient it is with clients, how it stops."""

    title = "Server"

    app_env: Literal["development", "production"] = Field(
        "development",
        description="`production` refuses unsafe defaults and hides development aids.",
    )
    host: str = Field("0.0.0.0", description="Address to listen on.")  # noqa: S104 - a container's port
    port: int = Field(3000, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    web_concurrency: Count = Field(
        1,
        le=256,
        description="Worker processes. More than one needs `REDIS_URL` and a Postgres `DATABASE_URL`.",
    )
    request_timeout_ms: Milliseconds = Field(
        30_000,
        description="Time a client has to send the head of a request, and again for its body.",
    )
    write_timeout_ms: Milliseconds = Field(
        30_000,
        description="A reader that takes nothing for this long is disconnected; an answer has as long to begin, else it is 503.",
    )
    drain_timeout_ms: Patience = Field(
        20_000, description="Time running streams have to finish after SIGTERM."
    )
    keep_alive_timeout_ms: Milliseconds = Field(
        65_000, description="An idle connection is kept open this long."
    )
    keep_alive_max_requests: Count = Field(
        100, description="Requests served on one connection before it is closed."
    )


class Logging(Section):
    """Logs: how much, and where."""

    title = "Logging"
    prefix = "LOG_"

    level: LogLevel = Field("INFO", description="The least severe lines that are written.")
    file: OptionalFile = Field("logs/api.log", description="JSON-lines log file, rotated by size.")
    file_max_bytes: Count = Field(10_000_000, description="The log file is rotated at this size.")
    file_backups: int = Field(5, ge=0, le=1000, description="Rotated log files that are kept.")


class Plugins(Section):
    """Middleware: which plug-ins are active, in which order."""

    title = "Middleware"

    middleware: tuple[PluginName, ...] = Field(
        ("request_id", "access_log", "cors", "auth", "limits", "fault_injection"),
        description="Active plug-ins; requests pass down the list, responses and events back up.",
    )
    enable_test_scenarios: bool | None = Field(
        None,
        description="Honour `X-Test-Scenario`. Default: on in development, off (and refused) in production.",
    )
    cors_origins: tuple[Origin, ...] = Field(
        ("*",),
        description="Origins that browsers may call from; `*`: any, without credentials.",
    )


class Auth(Section):
    """Who may call: how bearer tokens are verified."""

    title = "Authentication"
    prefix = "JWT_"

    secret: SecretStr | None = Field(
        None,
        min_length=32,
        description=f"HS256 secret. Default in development: `{DEVELOPMENT_SECRET}`, which production refuses.",
    )
    audience: str = Field(
        "authenticated", min_length=1, description="The token's `aud` must be or contain this."
    )
    issuer: str | None = Field(None, description="If set, the token's `iss` must be this.")
    jwks_url: Url | None = Field(None, description="Key set for ES256 and RS256 tokens.")


class Supabase(Section):
    """Supabase as the issuer of tokens."""

    title = "Supabase"
    prefix = "SUPABASE_"

    url: BaseUrl | None = Field(
        None,
        description="Project URL; its key set and issuer are used unless `JWT_JWKS_URL` or `JWT_ISSUER` is set.",
    )


class Storage(Section):
    """Where rows and shared state live."""

    title = "Storage"

    database_url: DatabaseUrl = Field(
        SecretStr("sqlite:///data/chat.db"),
        description="Where conversations, memory and telemetry are kept.",
    )
    redis_url: RedisUrl | None = Field(
        None, description="Shares streams and limits between processes. Default: each has its own."
    )


class Chat(Section):
    """How an answer is asked for."""

    title = "Answers"

    providers: tuple[Literal["openai", "anthropic", "stub"], ...] = Field(
        (),
        description="Providers in fallback order. Default: those that have a key, else the stub.",
    )
    system_prompt: str = Field(
        "You are a helpful assistant.", description="Instructions that open every prompt."
    )
    history_token_budget: TokenBudget = Field(
        2000, description="Tokens of the session's recent turns that go into the prompt."
    )
    price_file: str | None = Field(
        None,
        description="JSON file of prices that override or extend the built-in table (telemetry.md has its form).",
    )


class Streams(Section):
    """Streams: heartbeat, resume, bounds."""

    title = "Streams"

    openai_sse_heartbeat_ms: Milliseconds = Field(
        10_000, description="A heartbeat comment goes to every open stream this often."
    )
    stream_resume_grace_ms: Patience = Field(
        30_000, description="A resumable stream without readers runs on this long."
    )
    stream_retention_ms: Patience = Field(
        300_000, description="A finished stream can be read again this long."
    )
    stream_max_bytes: Count = Field(4_194_304, description="Bytes one answer may grow to.")
    stream_log_bytes: Count = Field(
        268_435_456, description="Bytes all stream logs may hold; the oldest finished go first."
    )


class Provider(Section):
    """What both real providers have in common."""

    vendor: ClassVar[str] = ""

    api_key: HeaderSecret | None = Field(
        None, description="API key; the provider is used when it is set."
    )
    connect_timeout_ms: Milliseconds = Field(5_000, description="Deadline for a connection.")
    first_token_timeout_ms: Milliseconds = Field(
        20_000, description="Deadline for the first token."
    )
    idle_timeout_ms: Milliseconds = Field(30_000, description="Longest gap between tokens.")
    total_timeout_ms: Milliseconds = Field(
        600_000, description="Deadline for the whole answer, retries included."
    )
    max_retries: int = Field(2, ge=0, le=10, description="Retries before the first token.")
    retry_base_ms: Milliseconds = Field(500, description="First wait of the exponential back-off.")
    max_sockets: Count = Field(
        50, description="Pooled connections; streams beyond take one of their own."
    )
    max_output_tokens: Count = Field(1024, description="Longest answer, in tokens.")
    temperature: float | None = Field(
        None, ge=0, le=2, description="Sampling temperature; unset: the provider's."
    )
    base_url: BaseUrl

    @property
    def at_its_vendor(self) -> bool:
        """Whether `base_url` is where nobody is served without a key."""
        host = urlsplit(self.base_url).hostname or ""
        return host == self.vendor or host.endswith(f".{self.vendor}")


class OpenAI(Provider):
    """OpenAI chat completions, or anything compatible."""

    title = "OpenAI"
    prefix = "OPENAI_"
    vendor = "openai.com"

    base_url: BaseUrl = Field(
        "https://api.openai.com/v1", description="Where the API is, up to `/v1`."
    )
    model: str = Field("gpt-4o-mini", min_length=1, description="Model to ask.")


class Anthropic(Provider):
    """Anthropic Messages."""

    title = "Anthropic"
    prefix = "ANTHROPIC_"
    vendor = "anthropic.com"

    base_url: BaseUrl = Field(
        "https://api.anthropic.com/v1", description="Where the API is, up to `/v1`."
    )
    model: str = Field("claude-haiku-4-5", min_length=1, description="Model to ask.")


class Memory(Section):
    """What is recalled from earlier conversations, and how much of it."""

    title = "Memory"
    prefix = "MEMORY_"

    top_k: Count = Field(10, le=100, description="Passages at most.")
    token_budget: TokenBudget = Field(1500, description="Tokens all passages together may take.")
    clip_sentences: Count = Field(2, description="Sentences kept of one passage.")
    min_relevance_score: float = Field(
        0.7, ge=0, le=1, description="Least relevant passage that is kept."
    )
    timeout_ms: Milliseconds = Field(
        1_000, description="An answer waits this long for memory, no longer."
    )


class Zep(Section):
    """Zep as the memory, in place of the embedded one."""

    title = "Zep"
    prefix = "ZEP_"

    api_key: HeaderSecret | None = Field(
        None, description="Zep API key; Zep is used when it is set."
    )
    base_url: BaseUrl = Field("https://api.getzep.com/api/v4", description="Where Zep's API v4 is.")


class Limits(Section):
    """How much one user, and all together, may ask for."""

    title = "Limits"
    prefix = "LIMIT_"

    requests_per_minute: Count | None = Field(
        None,
        description="Chat requests per user and minute. Default: 60 in production, unlimited in development.",
    )
    user_streams: Count | None = Field(
        None,
        description="Streams a user may have open. Default: 10 in production, unlimited in development.",
    )
    process_streams: Count = Field(10_000, description="Streams a process may have open.")
    process_connections: Count | None = Field(
        None,
        description="Connections a process keeps open. Default: 20000, or half of its descriptors if that is less.",
    )
    address_connections: Count | None = Field(
        None,
        description="Connections from one address. Default: no limit. Not for a service behind a proxy, whose address all share.",
    )
    daily_budget_usd: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="What one user's answers may cost in a UTC day. Default: no limit.",
    )


class Metrics(Section):
    """Prometheus metrics."""

    title = "Metrics"
    prefix = "METRICS_"

    token: HeaderSecret | None = Field(
        None, description="Bearer token for `/metrics`; without it the route is off in production."
    )
