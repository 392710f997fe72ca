"""Settings: environment variables, read once, checked, and frozen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_origin
from urllib.parse import unquote, urlsplit

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from settings import sections
from settings.sections import DEVELOPMENT_SECRET, Section
from settings.spelling import near_misses
from settings.wording import allowed

__all__ = ["BadSetting", "ProviderName", "Settings", "load_settings", "seconds", "variable"]

ProviderName: TypeAlias = Literal["openai", "anthropic", "stub"]


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
    # `MIDDLEWARE_<NAME>_<FIELD>`, checked by the plug-in they belong to.
    middleware_options: Mapping[str, str] = {}
    # Variables that look like a misspelt setting, with the name that was probably meant.
    near_misses: Mapping[str, str] = {}

    @property
    def production(self) -> bool:
        """Whether unsafe defaults are refused."""
        return self.server.app_env == "production"

    @property
    def test_scenarios(self) -> bool:
        """Whether `X-Test-Scenario` is honoured."""
        chosen = self.plugins.enable_test_scenarios
        return not self.production if chosen is None else chosen

    @property
    def providers(self) -> tuple[ProviderName, ...]:
        """Providers in fallback order: as chosen, else those that have a key, else the stub."""
        keyed: list[ProviderName] = []
        if self.openai.api_key is not None:
            keyed.append("openai")
        if self.anthropic.api_key is not None:
            keyed.append("anthropic")
        return self.chat.providers or tuple(keyed) or ("stub",)

    @property
    def jwt_secret(self) -> SecretStr | None:
        """What verifies HS256 tokens, if such tokens are taken; development needs no secret of its own."""
        if self.auth.secret is None and not self.production:
            return SecretStr(DEVELOPMENT_SECRET)
        return self.auth.secret

    @property
    def jwks_url(self) -> str | None:
        """Where the keys of asymmetric tokens are, if such tokens are taken."""
        if self.auth.jwks_url is None and self.supabase.url is not None:
            return f"{self.supabase.url}/auth/v1/.well-known/jwks.json"
        return self.auth.jwks_url

    @property
    def jwt_issuer(self) -> str | None:
        """What a token's `iss` must be, if anything."""
        if self.auth.issuer is None and self.supabase.url is not None:
            return f"{self.supabase.url}/auth/v1"
        return self.auth.issuer

    def secrets(self) -> Iterator[str]:
        """Every secret value, to be kept out of the logs; of a URL its password."""
        for section in section_types():
            for value in getattr(self, section).__dict__.values():
                if isinstance(value, SecretStr):
                    yield from _secret_parts(value.get_secret_value())

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read the settings from *env*; an empty value counts as unset. Raises `BadSetting`."""
        options = {name: value for name, value in env.items() if name.startswith("MIDDLEWARE_")}
        for name in (*variables(), *options):
            _refuse_undecodable(name, env.get(name, ""))
        values: dict[str, Any] = {
            name: _section(section, env) for name, section in section_types().items()
        }
        settings = cls(
            **values,
            middleware_options=options,
            near_misses=near_misses(env.keys() - options.keys(), variables()),
        )
        _refuse_contradictions(settings)
        if settings.production:
            _refuse_unsafe(settings)
        return settings


def load_settings(environ: Mapping[str, str], dotenv_path: Path) -> Settings:
    """Read the settings from *environ* and, in development, from the file at *dotenv_path* if there is one.

    What *environ* says wins, also when it says a variable is empty. Raises `BadSetting`.
    """
    if environ.get("APP_ENV", "").strip() == "production" or not dotenv_path.exists():
        return Settings.from_env(environ)
    try:
        # A `$` in a value is part of it: secrets are pasted, not composed.
        file = dotenv_values(dotenv_path, interpolate=False)
    except (OSError, UnicodeDecodeError) as exc:
        raise BadSetting(f"{dotenv_path.name}: can't be read ({type(exc).__name__})") from exc
    env = {name: value for name, value in file.items() if value is not None} | dict(environ)
    settings = Settings.from_env(env)
    if settings.production:
        raise BadSetting(
            f"APP_ENV: {dotenv_path.name} is for development; set production in the environment itself"
        )
    return settings


def section_types() -> dict[str, type[Section]]:
    """The sections by their name in `Settings`, in order."""
    return {
        name: field.annotation
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }


def variables() -> list[str]:
    """Every environment variable that is a setting, in order."""
    return [
        variable(section, field)
        for section in section_types().values()
        for field in section.model_fields
    ]


def variable(section: type[Section], field: str) -> str:
    """The environment variable that sets *field* of *section*."""
    return f"{section.prefix}{field}".upper()


def seconds(milliseconds: int) -> float:
    """Milliseconds of a setting as the float seconds used inside."""
    return milliseconds / 1000


def _section(section: type[Section], env: Mapping[str, str]) -> Section:
    given: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        if text := env.get(variable(section, name), "").strip():
            given[name] = _items(text) if get_origin(field.annotation) is tuple else text
    try:
        return section(**given)
    except ValidationError as exc:
        # Pydantic's own words echo values and speak of "items"; our line does neither.
        name = str(exc.errors(include_url=False, include_input=False)[0]["loc"][0])
        must = allowed(section.model_fields[name])
        raise BadSetting(f"{variable(section, name)}: must be {must}") from None


def _refuse_undecodable(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        # Python keeps such bytes as lone surrogates, which neither a key nor a prompt can hold.
        raise BadSetting(f"{name}: must be text in UTF-8") from None


def _items(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _secret_parts(text: str) -> Iterator[str]:
    if "://" not in text:
        yield text
    elif password := urlsplit(text).password:
        yield password
        yield unquote(password)


def _refuse_contradictions(settings: Settings) -> None:
    _refuse_useless_origins(settings.plugins.cors_origins)
    _refuse_useless_providers(settings)
    _refuse_two_credentials(settings.openai)
    _refuse_two_credentials(settings.zep)
    if settings.server.web_concurrency > 1:
        _require_shared_state(settings)


def _refuse_useless_origins(origins: tuple[str, ...]) -> None:
    if "*" in origins and len(origins) > 1:
        raise BadSetting("CORS_ORIGINS: * stands alone, or leave it out")
    if any("*" in origin and origin != "*" for origin in origins):
        raise BadSetting("CORS_ORIGINS: * can't be a part of an origin: list each, or * alone")


def _refuse_useless_providers(settings: Settings) -> None:
    chosen = settings.chat.providers
    for position, name in enumerate(chosen):
        if name in chosen[:position]:
            raise BadSetting(f"PROVIDERS: {name} is listed twice")
    for name, section in (("openai", settings.openai), ("anthropic", settings.anthropic)):
        if name in chosen and section.api_key is None and section.at_its_vendor:
            raise BadSetting(
                f"{section.prefix}API_KEY: required, since PROVIDERS names {name}"
                f" and {section.prefix}BASE_URL no server that works without"
            )


def _refuse_two_credentials(section: sections.OpenAI | sections.Zep) -> None:
    if section.api_key is not None and "@" in urlsplit(section.base_url).netloc:
        raise BadSetting(
            f"{section.prefix}BASE_URL: has a user, and {section.prefix}API_KEY is set:"
            " a request has one Authorization header"
        )


def _require_shared_state(settings: Settings) -> None:
    if settings.storage.redis_url is None:
        raise BadSetting("WEB_CONCURRENCY: more than one worker needs REDIS_URL to share streams")
    if not settings.storage.database_url.get_secret_value().startswith("postgres"):
        raise BadSetting("WEB_CONCURRENCY: more than one worker needs a Postgres DATABASE_URL")


def _refuse_unsafe(settings: Settings) -> None:
    secret = settings.auth.secret
    if secret is None and settings.jwks_url is None:
        raise BadSetting("JWT_SECRET: required in production, or JWT_JWKS_URL or SUPABASE_URL")
    if secret is not None and secret.get_secret_value() == DEVELOPMENT_SECRET:
        raise BadSetting("JWT_SECRET: the development secret is refused in production")
    if settings.test_scenarios:
        raise BadSetting("ENABLE_TEST_SCENARIOS: fault injection is refused in production")
