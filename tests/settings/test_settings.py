"""Settings are read from the environment, and a bad one stops the start with one line."""

import pytest
from refusals import refusal

from settings import BadSetting, Settings, load_settings, section_types, variable
from settings.wording import allowed

SECRET = "s" * 32
PRODUCTION = {"APP_ENV": "production", "JWT_SECRET": SECRET}
KEY = {"OPENAI_API_KEY": "sk-1"}

# A value that the setting can't hold, for every kind of setting that can't hold everything.
BAD = {
    "a whole number": "ten",
    "a number": "nan",
    "true or false": "perhaps",
    "at least": "short",
    "an http": "example.com",
    "visible ASCII": "a key",
    "sqlite": "mysql://host/name",
    "redis": "localhost:6379",
    "development or production": "staging",
    "DEBUG": "loud",
    "a comma-separated list of origins": "example.com",
    "a comma-separated list of openai": "openai,acme",
}


def test_an_empty_environment_gives_the_documented_defaults():
    settings = Settings.from_env({})

    assert settings.server.port == 3000
    assert settings.server.host == "0.0.0.0"
    assert settings.streams.openai_sse_heartbeat_ms == 10_000
    assert settings.openai.model == "gpt-4o-mini"
    assert settings.logging.file == "logs/api.log"
    assert settings.providers == ("stub",)
    assert settings.test_scenarios
    assert not settings.production


def test_an_empty_value_counts_as_unset():
    assert Settings.from_env({"PORT": " ", "REDIS_URL": ""}) == Settings.from_env({})


def test_lists_are_split_at_commas():
    settings = Settings.from_env({"PROVIDERS": "openai, stub,", "MIDDLEWARE": "cors,auth"} | KEY)

    assert settings.providers == ("openai", "stub")
    assert settings.plugins.middleware == ("cors", "auth")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("JWT_SECRET", "too short", "JWT_SECRET: must be at least 32 characters"),
        ("PORT", "65536", "PORT: must be a whole number from 0 to 65535"),
        ("APP_ENV", "prod", "APP_ENV: must be development or production"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL: must be DEBUG, INFO, WARNING or ERROR"),
        ("LIMIT_DAILY_BUDGET_USD", "0", "LIMIT_DAILY_BUDGET_USD: must be a number above 0"),
        (
            "OPENAI_MAX_SOCKETS",
            "0",
            "OPENAI_MAX_SOCKETS: must be a whole number from 1 to 1000000000000",
        ),
        (
            "LIMIT_USER_STREAMS",
            "0",
            "LIMIT_USER_STREAMS: must be a whole number from 1 to 1000000000000",
        ),
        ("CORS_ORIGINS", "*,https://a.example", "CORS_ORIGINS: * stands alone, or leave it out"),
        (
            "CORS_ORIGINS",
            "https://*.vercel.app",
            "CORS_ORIGINS: * can't be a part of an origin: list each, or * alone",
        ),
        ("PROVIDERS", "stub,openai,stub", "PROVIDERS: stub is listed twice"),
        (
            "OPENAI_BASE_URL",
            "http://h:99999",
            "OPENAI_BASE_URL: must be an http:// or https:// URL without a query",
        ),
        # As Python gives the bytes of a Latin-1 terminal.
        ("JWT_SECRET", "gehe\udcefm" * 8, "JWT_SECRET: must be text in UTF-8"),
        ("SYSTEM_PROMPT", "Sei h\udcf6flich.", "SYSTEM_PROMPT: must be text in UTF-8"),
        ("MIDDLEWARE_X_TEXT", "\udcf6", "MIDDLEWARE_X_TEXT: must be text in UTF-8"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_variable(variable, value, message):
    assert refusal(**{variable: value}) == message


def every_setting():
    return [
        pytest.param(section, name, id=variable(section, name))
        for section in section_types().values()
        for name in section.model_fields
    ]


@pytest.mark.parametrize(("section", "name"), every_setting())
def test_no_refusal_echoes_the_value_or_falls_back_to_pydantics_words(section, name):
    words = allowed(section.model_fields[name])
    bad = next((value for start, value in BAD.items() if words.startswith(start)), None)
    if bad is None:
        free = ("text", "a path", "a comma-separated list of plug-in names")
        assert words.startswith(free), "a value that this setting refuses is missing in BAD"
        return

    message = refusal(**{variable(section, name): bad})

    assert message == f"{variable(section, name)}: must be {words}"
    assert bad not in message.replace(words, "")


@pytest.mark.parametrize(("section", "name"), every_setting())
def test_every_number_has_a_bound(section, name):
    """Without one, some were a traceback at start, and one an error in every answer of a session."""
    if allowed(section.model_fields[name]).startswith(("a whole number", "a number from")):
        assert refusal(**{variable(section, name): "9" * 20})


def test_the_log_file_can_be_switched_off():
    assert Settings.from_env({"LOG_FILE": "none"}).logging.file is None


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"JWT_SECRET": ""}, "JWT_SECRET: required in production, or JWT_JWKS_URL or SUPABASE_URL"),
        (
            {"JWT_SECRET": "placeholder-jwt-secret-with-at-least-32-characters"},
            "JWT_SECRET: the development secret is refused in production",
        ),
        (
            {"ENABLE_TEST_SCENARIOS": "true"},
            "ENABLE_TEST_SCENARIOS: fault injection is refused in production",
        ),
    ],
)
def test_production_refuses_what_is_only_safe_in_development(env, message):
    assert refusal(**PRODUCTION | env) == message


def test_development_needs_no_secret_of_its_own():
    secret = Settings().jwt_secret

    assert secret is not None
    assert secret.get_secret_value() == "placeholder-jwt-secret-with-at-least-32-characters"


def test_production_with_a_key_set_trusts_no_default_secret():
    """Anybody knows the placeholder: it must not verify tokens beside the key set."""
    settings = Settings.from_env({"APP_ENV": "production", "SUPABASE_URL": "https://x.supabase.co"})

    assert settings.jwt_secret is None
    assert settings.jwks_url == "https://x.supabase.co/auth/v1/.well-known/jwks.json"
    assert settings.jwt_issuer == "https://x.supabase.co/auth/v1"


def test_a_key_set_and_an_issuer_that_are_named_win_over_supabase():
    settings = Settings.from_env(
        {
            "SUPABASE_URL": "https://x.supabase.co/",
            "JWT_JWKS_URL": "https://a.example/keys",
            "JWT_ISSUER": "a",
        }
    )

    assert (settings.jwks_url, settings.jwt_issuer) == ("https://a.example/keys", "a")


def test_an_address_of_supabase_may_end_with_a_slash():
    settings = Settings.from_env({"SUPABASE_URL": "https://x.supabase.co/"})

    assert settings.jwks_url == "https://x.supabase.co/auth/v1/.well-known/jwks.json"
    assert settings.jwt_issuer == "https://x.supabase.co/auth/v1"


def test_without_supabase_only_what_is_named_is_trusted():
    settings = Settings.from_env({})

    assert (settings.jwks_url, settings.jwt_issuer) == (None, None)


def test_production_starts_with_a_secret_alone_and_without_development_aids():
    settings = Settings.from_env(PRODUCTION)

    assert settings.production
    assert not settings.test_scenarios


@pytest.mark.parametrize(
    ("env", "missing"),
    [
        ({}, "REDIS_URL"),
        ({"REDIS_URL": "redis://localhost"}, "Postgres DATABASE_URL"),
    ],
)
def test_several_workers_need_what_they_share(env, missing):
    message = refusal(WEB_CONCURRENCY="2", **env)

    assert message.startswith("WEB_CONCURRENCY: ")
    assert missing in message


@pytest.mark.parametrize("base", ["https://api.openai.com/v1", "https://eu.api.OpenAI.com/v1"])
def test_a_provider_that_is_named_needs_its_key(base):
    """It once started, and ended every answer with an error."""
    assert refusal(PROVIDERS="stub,openai", OPENAI_BASE_URL=base) == (
        "OPENAI_API_KEY: required, since PROVIDERS names openai"
        " and OPENAI_BASE_URL no server that works without"
    )
    assert refusal(**PRODUCTION, PROVIDERS="anthropic", **KEY).startswith("ANTHROPIC_API_KEY: ")


@pytest.mark.parametrize("base", ["http://localhost:8000/v1", "https://notopenai.com/v1"])
def test_a_server_of_ones_own_may_work_without_a_key(base):
    settings = Settings.from_env(PRODUCTION | {"PROVIDERS": "openai", "OPENAI_BASE_URL": base})

    assert settings.providers == ("openai",)
    assert settings.openai.api_key is None


def test_a_key_chooses_its_provider_unless_the_order_is_given():
    keys = {"OPENAI_API_KEY": "sk-1", "ANTHROPIC_API_KEY": "sk-2"}

    assert Settings.from_env(keys).providers == ("openai", "anthropic")
    assert Settings.from_env(keys | {"PROVIDERS": "anthropic"}).providers == ("anthropic",)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("OPENAI_TIMEOUT", "OPENAI_IDLE_TIMEOUT_MS"),
        ("REDIS_URI", "REDIS_URL"),
        ("PROVIDER", "PROVIDERS"),
        ("DRAIN_TIMEOUT", "DRAIN_TIMEOUT_MS"),
    ],
)
def test_a_misspelt_setting_is_noticed(name, meant):
    assert Settings.from_env({name: "1"}).near_misses == {name: meant}


def test_other_peoples_variables_are_no_misspelling():
    env = dict.fromkeys(
        ["PATH", "HOME", "HOSTNAME", "OPENAI_ORG_ID", "SUPABASE_ANON_KEY", "MIDDLEWARE_CORS_MAX"],
        "1",
    )

    settings = Settings.from_env(env)

    assert settings.near_misses == {}
    assert settings.middleware_options == {"MIDDLEWARE_CORS_MAX": "1"}


def test_secrets_are_listed_for_redaction_and_hidden_in_the_repr():
    settings = Settings.from_env(
        {
            "JWT_SECRET": SECRET,
            "OPENAI_API_KEY": "sk-planted",
            "DATABASE_URL": "postgresql://me:p%40ss@host/name",
        }
    )

    assert set(settings.secrets()) == {SECRET, "sk-planted", "p%40ss", "p@ss"}
    assert "planted" not in repr(settings)
    assert "p%40ss" not in repr(settings)


def test_the_environment_wins_over_the_dotenv_file(tmp_path):
    file = tmp_path / ".env"
    file.write_text("PORT=4000\nOPENAI_MODEL=from-file\nOPENAI_API_KEY=a$b\nLOG_LEVEL=debug\n")

    settings = load_settings({"PORT": "5000", "LOG_LEVEL": ""}, file)

    assert settings.server.port == 5000
    assert settings.openai.model == "from-file"
    assert settings.openai.api_key is not None
    assert settings.openai.api_key.get_secret_value() == "a$b"
    assert settings.logging.level == "INFO"


def test_the_dotenv_file_is_not_read_in_production(tmp_path):
    file = tmp_path / ".env"
    file.write_text("PORT=4000\n")

    assert load_settings(PRODUCTION, file).server.port == 3000


def test_the_dotenv_file_cannot_ask_for_production(tmp_path):
    file = tmp_path / ".env"
    file.write_text(f"APP_ENV=production\nJWT_SECRET={SECRET}\n")

    with pytest.raises(BadSetting, match=r"^APP_ENV: \.env is for development"):
        load_settings({}, file)


def test_a_dotenv_file_that_is_no_text_is_one_line(tmp_path):
    file = tmp_path / ".env"
    file.write_bytes(b"\xff\xfe")

    with pytest.raises(BadSetting, match=r"^\.env: can't be read \(UnicodeDecodeError\)$"):
        load_settings({}, file)


def test_no_dotenv_file_is_fine(tmp_path):
    assert load_settings({}, tmp_path / ".env") == Settings()
