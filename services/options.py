"""Settings, translated into what each part of the services takes."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from pydantic import SecretStr

from services.limits.quotas import UNLIMITED, Quotas
from services.memory.recall import RecallPolicy
from services.pricing import BadPriceFile, Prices
from services.providers.build import ProviderOptions
from services.report import Accountant
from services.streaming.streams import Policy
from services.turn import Turn
from settings import BadSetting, ProviderName, Settings, seconds


def provider_options(settings: Settings) -> list[ProviderOptions]:
    """The providers to use, in fallback order."""
    return [_options(settings, name) for name in settings.providers]


def named_parts(settings: Settings) -> dict[str, str]:
    """What the service is made of, by name: for the log, without addresses or keys."""
    url = settings.storage.database_url.get_secret_value()
    keys = {"secret": settings.jwt_secret, "jwks": settings.jwks_url}
    return {
        "providers": ",".join(settings.providers),
        "database": "sqlite" if url.startswith("sqlite") else "postgres",
        "redis": "none",
        "memory": "embedded" if settings.zep.api_key is None else "zep",
        "keys": ",".join(name for name, given in keys.items() if given is not None),
    }


def policy(settings: Settings) -> Policy:
    """How streams live."""
    return Policy(
        grace=seconds(settings.streams.stream_resume_grace_ms),
        retention=seconds(settings.streams.stream_retention_ms),
        max_stream_bytes=settings.streams.stream_max_bytes,
        max_log_bytes=settings.streams.stream_log_bytes,
    )


def recall_policy(settings: Settings) -> RecallPolicy:
    """How much is recalled."""
    memory = settings.memory
    return RecallPolicy(
        top_k=memory.top_k,
        token_budget=memory.token_budget,
        clip_sentences=memory.clip_sentences,
        min_relevance_score=memory.min_relevance_score,
        timeout=seconds(memory.timeout_ms),
    )


def quotas(settings: Settings) -> Quotas:
    """How much is allowed."""
    limits = settings.limits
    budget = limits.daily_budget_usd
    # One development token stands for all users of a load test.
    requests, streams = (60, 10) if settings.production else (UNLIMITED, UNLIMITED)
    return Quotas(
        requests_per_minute=limits.requests_per_minute or requests,
        user_streams=limits.user_streams or streams,
        process_streams=limits.process_streams,
        daily_budget=None if budget is None else Decimal(str(budget)),
    )


def worst_case(settings: Settings, accountant: Accountant) -> Callable[[Turn], Decimal]:
    """What a turn may cost at most, in dollars, by the dearest provider; 0 without a budget.

    Raises `BadSetting` for a budget that would pay for no answer at all.
    """
    budget = settings.limits.daily_budget_usd
    if budget is None:
        return lambda turn: Decimal(0)
    models = provider_options(settings)
    fixed = (
        accountant.tokens.count(settings.chat.system_prompt)
        + settings.chat.history_token_budget
        + settings.memory.token_budget
        + 100  # what providers wrap messages in
    )

    def cost(turn: Turn) -> Decimal:
        return most(fixed + accountant.tokens.count(turn.message))

    def most(tokens_in: int) -> Decimal:
        return max(
            accountant.prices.cost(
                options.model, tokens_in=tokens_in, tokens_out=options.max_output_tokens
            )
            or Decimal(0)
            for options in models
        )

    if (least := most(fixed + 1)) > Decimal(str(budget)):
        raise BadSetting(
            f"LIMIT_DAILY_BUDGET_USD: {budget:g} would pay for no answer at all: "
            f"even the shortest question may cost {least.normalize():f}"
        )
    return cost


def prices(settings: Settings) -> Prices:
    """The built-in prices, with those of `PRICE_FILE` over them. Raises `BadSetting`."""
    if settings.chat.price_file is None:
        return Prices()
    try:
        return Prices.load(Path(settings.chat.price_file))
    except BadPriceFile as exc:
        raise BadSetting(f"PRICE_FILE: {exc}") from exc


def revealed(secret: SecretStr | None) -> str | None:
    """The value of *secret*."""
    return None if secret is None else secret.get_secret_value()


def _options(settings: Settings, name: ProviderName) -> ProviderOptions:
    # The stub passes for OpenAI.
    section = settings.anthropic if name == "anthropic" else settings.openai
    return ProviderOptions(
        name=name,
        api_key=revealed(section.api_key) or "",
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
