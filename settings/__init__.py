"""Settings: environment variables, read once, checked, and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from settings import sections
from settings.sections import DEVELOPMENT_SECRET

__all__ = ["BadSetting", "Settings", "seconds", "variable"]


class BadSetting(Exception):
    """A setting has a value that can't be used; the message is one line and names the variable."""


class Settings(BaseModel):
    """All settings, by section."""

    model_config = ConfigDict(frozen=True)

    server: sections.Server = sections.Server()
    logging: sections.Logging = sections.Logging()
    plugins: sections.Plugins = sections.Plugins()
    auth: sections.Auth = sections.Auth()
    supabase: sections.Supabase = sections.Supabase()
    storage: sections.Storage = sections.Storage()
    chat: sections.Chat = sections.Chat()
    streams: sections.Streams = sections.Streams()
    openai: sections.OpenAI = sections.OpenAI()
    anthropic: sections.Anthropic = sections.Anthropic()
    memory: sections.Memory = sections.Memory()
    zep: sections.Zep = sections.Zep()
    limits: sections.Limits = sections.Limits()
    metrics: sections.Metrics = sections.Metrics()
    middleware_options: Mapping[str, str] = {}

    @property
    def production(self) -> bool:
        """Whether unsafe defaults are refused."""
        return self.server.app_env == "production"

    @property
    def test_scenarios(self) -> bool:
        """Whether `X-Test-Scenario` is honoured."""
        chosen = self.plugins.enable_test_scenarios
        return not self.production if chosen is None else chosen

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read the settings from *env*; an empty value counts as unset. Raises `BadSetting`."""
        values: dict[str, Any] = {
            name: _section(field.annotation, env)
            for name, field in cls.model_fields.items()
            if isinstance(field.annotation, type) and issubclass(field.annotation, sections.Section)
        }
        options = {name: value for name, value in env.items() if name.startswith("MIDDLEWARE_")}
        settings = cls(**values, middleware_options=options)
        _refuse_unsafe(settings)
        return settings


def variable(section: type[sections.Section], field: str) -> str:
    """The environment variable that sets *field* of *section*."""
    return f"{section.prefix}{field}".upper()


def seconds(milliseconds: int) -> float:
    """Milliseconds of a setting as the float seconds used inside."""
    return milliseconds / 1000


def _section(section: type[sections.Section], env: Mapping[str, str]) -> sections.Section:
    given: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        if text := env.get(variable(section, name), "").strip():
            given[name] = _items(text) if get_origin(field.annotation) is tuple else text
    try:
        return section(**given)
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False)[0]
        name = variable(section, str(error["loc"][0]))
        raise BadSetting(f"{name}: {error['msg']}") from None


def _items(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _refuse_unsafe(settings: Settings) -> None:
    if settings.server.web_concurrency > 1:
        _require_shared_state(settings)
    if not settings.production:
        return
    secret = settings.auth.secret
    if secret is not None and secret.get_secret_value() == DEVELOPMENT_SECRET:
        raise BadSetting(
            "JWT_SECRET: the development secret is refused in production; set your own"
        )
    if settings.test_scenarios:
        raise BadSetting("ENABLE_TEST_SCENARIOS: fault injection is refused in production")


def _require_shared_state(settings: Settings) -> None:
    if settings.storage.redis_url is None:
        raise BadSetting("WEB_CONCURRENCY: more than one worker needs REDIS_URL to share streams")
    if not settings.storage.database_url.get_secret_value().startswith("postgres"):
        raise BadSetting("WEB_CONCURRENCY: more than one worker needs a Postgres DATABASE_URL")
