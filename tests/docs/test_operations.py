"""The operations page names every metric and no other, every warning, and how long a process may take to end."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import aiohttp
import pytest

import server
from sanic_server import serve
from services.limits.limiter import open_limits
from services.memory import recall
from services.storage import database
from services.storage.write_behind import Pace
from services.streaming import store_redis
from settings import log_writer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
SOURCES = [
    *ROOT.glob("*.py"),
    *(
        path
        for folder in ("blueprints", "middleware", "services", "settings")
        for path in (ROOT / folder).rglob("*.py")
    ),
]
# Whoever writes behind is told what its store and its items are called.
WARNS = {"warning", "error", "critical", "exception", "_notice"}
NAMED = {"WriteBehind": (" unavailable", " dropped")}


def warnings() -> set[str]:
    """Every phrase that the service logs as a warning or worse."""
    phrases = set()
    for source in SOURCES:
        for call in ast.walk(ast.parse(source.read_text("utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            endings = NAMED.get(name, ("",) if name in WARNS else ())
            for argument, ending in zip(call.args, endings, strict=False):
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    phrases.add(argument.value + ending)
    return phrases


async def test_the_page_names_every_metric_and_no_other(loop, make_app):
    nowhere = "http://127.0.0.1:9/v1"
    app = make_app(
        {
            "PROVIDERS": "openai,anthropic",
            "OPENAI_API_KEY": "k" * 20,
            "OPENAI_BASE_URL": nowhere,
            "ANTHROPIC_API_KEY": "k" * 20,
            "ANTHROPIC_BASE_URL": nowhere,
        }
    )

    async with (
        serve(app) as server,
        aiohttp.ClientSession() as session,
        session.get(server.url("/metrics")) as response,
    ):
        published = set(re.findall(r"^# TYPE (chat_\w+)", await response.text(), re.MULTILINE))

    # What there is of each provider is named once for all of them.
    published = {name for name in published if not name.startswith("chat_anthropic_")}
    spelt_out = PAGE.replace("`…_", "`chat_openai_").replace("<provider>", "openai")
    named = {name.removesuffix("_bucket") for name in re.findall(r"\bchat_\w+", spelt_out)}
    assert named == published


def test_a_platform_that_waits_as_long_as_the_page_says_never_kills_a_process_that_still_writes():
    """What comes after the drain, one after the other, at its longest."""
    ledger = inspect.signature(open_limits).parameters["patience"].default
    at_most = (
        server.LAST_BYTES  # answers on their way
        + recall._CLOSE_TIMEOUT  # searches that were cancelled
        + store_redis._CLOSE + ledger  # what Redis is still to be told
        + Pace().close + Pace().stop  # the queues, all at one time
        + database._CLOSE_TIMEOUT
        + log_writer.PATIENCE
    )  # fmt: skip

    [documented] = re.findall(r"`DRAIN_TIMEOUT_MS` \+ (\d+) s", PAGE)

    assert at_most + 2 < int(documented) < at_most + 10


@pytest.mark.parametrize("phrase", sorted(warnings()))
def test_the_page_names_every_phrase_that_is_logged_as_a_warning_or_worse(phrase: str):
    assert f"`{phrase}" in PAGE


def test_the_page_names_no_warning_that_is_never_logged():
    _, _, table = PAGE.partition("## What the log warns of")
    phrases = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)))

    assert len(phrases) > 20
    assert set(phrases) <= warnings()
