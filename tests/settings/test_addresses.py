"""Settings that are addresses: URLs that requests go to, databases, and the origins of browsers."""

import pytest
from refusals import refusal

from settings import Settings


def test_urls_lose_their_trailing_slash():
    settings = Settings.from_env({"OPENAI_BASE_URL": "http://localhost:8000/v1/"})

    assert settings.openai.base_url == "http://localhost:8000/v1"


@pytest.mark.parametrize("end", ["?api-version=1", "/?", "#v1"])
def test_an_address_to_which_paths_are_added_has_no_query(end):
    """Every request went to `/v1?api-version=1/chat/completions`, and the start said nothing."""
    for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "ZEP_BASE_URL", "SUPABASE_URL"):
        assert refusal(**{name: f"https://a.example/v1{end}"}).startswith(f"{name}: must be")


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:pa#ss@host:6379",
        "redis://host:port",
        "redis://host:70000",
        "redis://host/name",
        "unix://",
    ],
)
def test_a_redis_url_that_cannot_be_used_is_refused(url):
    """The first three were a traceback, which quoted a part of the password; the fourth was database 0."""
    assert refusal(REDIS_URL=url).startswith("REDIS_URL: must be")


def test_the_database_of_a_redis_url_may_be_named_or_not():
    for url in ("redis://host", "rediss://:pass@host:6380/", "redis://host/3", "unix:///run/redis"):
        assert Settings.from_env({"REDIS_URL": url}).storage.redis_url is not None


@pytest.mark.parametrize("name", ["OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "ZEP_BASE_URL"])
def test_an_address_with_an_impossible_host_is_refused(name):
    """It was an error in every answer."""
    message = "must be an http:// or https:// URL without a query"
    assert refusal(**{name: "http://a..b/v1"}) == f"{name}: {message}"


@pytest.mark.parametrize("prefix", ["OPENAI_", "ZEP_"])
def test_a_request_has_one_authorization(prefix):
    """aiohttp refuses two, and every answer was an error."""
    base = {f"{prefix}BASE_URL": "http://user:pass@host/v1"}

    assert refusal(**base, **{f"{prefix}API_KEY": "k"}).startswith(f"{prefix}BASE_URL: has a user")
    assert Settings.from_env(base)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("https://App.example.com/", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://app.example.com:80/", "http://app.example.com"),
        ("http://app.example.com:443", "http://app.example.com:443"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://[::1]:80", "http://[::1]"),
        ("capacitor://localhost", "capacitor://localhost"),
    ],
)
def test_origins_are_compared_in_the_form_browsers_send(given, sent):
    assert Settings.from_env({"CORS_ORIGINS": given}).plugins.cors_origins == (sent,)


@pytest.mark.parametrize(
    "never_sent",
    [
        "https://app.example.com/path",
        "https://app.example.com?query",
        "https://me@app.example.com",
        "https://bücher.example",
        "https://app.example.com:99999",
        "https://app example.com",
        "app.example.com",
        "null",
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(never_sent):
    assert refusal(CORS_ORIGINS=never_sent).startswith("CORS_ORIGINS: must be")


@pytest.mark.parametrize(
    "url",
    [
        "postgres://me:word@host.railway.internal:5432/railway",
        "postgresql://postgres:@/postgres?host=/run/postgresql",
        "postgresql+asyncpg://me:word@host/name",
    ],
)
def test_every_form_of_a_postgres_url_that_storage_takes_is_a_database_url(url):
    settings = Settings.from_env({"DATABASE_URL": url})

    assert settings.storage.database_url.get_secret_value() == url
