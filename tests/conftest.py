"""What every test may use: an app with its settings, a client, tokens, and nothing left running."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from logged import logged
from patience import await_true
from ports import free_port
from postgres import postgres_server, postgres_url
from redis_server import redis

from app import create_app
from blueprints.context import ChatApp
from sanic_server import release_apps, teach_pytest_sanic
from settings import Settings
from settings.development import development_token

__all__ = ["postgres_server", "postgres_url", "redis"]  # fixtures of every test

teach_pytest_sanic()

# How long an example takes is the machine's business.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


def pytest_collection_finish() -> None:
    """What was imported by now stays: no garbage collection needs to look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The variables an app under test is started with; a test adds its own."""
    return {
        "DATABASE_URL": f"sqlite:///{tmp_path}/chat.db",
        "LOG_FILE": "",
        "OPENAI_RETRY_BASE_MS": "1",
        "DRAIN_TIMEOUT_MS": "100",
    }


@pytest.fixture
def make_app(environment: dict[str, str]) -> Callable[..., ChatApp]:
    """Makes an app of `environment`, with settings given as variables and parts as keywords."""

    def make(variables: dict[str, str] | None = None, **parts: Any) -> ChatApp:
        return create_app(Settings.from_env(environment | (variables or {})), **parts)

    return make


@pytest.fixture
def token() -> str:
    """A token of `test-user-id`, good for an hour."""
    return development_token(Settings(), ttl=3600)


@pytest.fixture
def bearer(token: str) -> dict[str, str]:
    """The header that carries `token`."""
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def unused_port() -> int:
    """A port where nobody listens, nor will: pytest-sanic's could be anybody's next connection."""
    return free_port()


@pytest.fixture
def lines() -> Iterator[list[tuple[str, str]]]:
    """What is logged at info and above, as (level, phrase)."""
    with logged(lambda record: (record["level"].name, record["message"])) as lines:
        yield lines


@pytest.fixture(autouse=True)
def _nothing_is_left(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Every test may be a coroutine; one that leaves a task or a thread has found a leak, or is one.

    A thread that goes on keeps the process from ending.

    Apps are forgotten, served or not: Sanic keeps a register of names, and much else.
    """
    before = set(threading.enumerate())
    yield
    release_apps()
    left = [task for task in asyncio.all_tasks(loop) if not task.done()]
    assert left == []
    # Those of `asyncio.to_thread` end with the loop; others may be about to.
    await_true(
        lambda: all(
            thread.daemon or thread.name.startswith("asyncio_")
            for thread in set(threading.enumerate()) - before
        ),
        lambda: f"threads left: {set(threading.enumerate()) - before}",
    )
