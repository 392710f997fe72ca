"""The metrics that the operations page names are those that are there, and the other way round."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp

from sanic_server import serve

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")


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
