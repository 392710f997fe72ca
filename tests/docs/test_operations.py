"""The metrics that the operations page names are those that are there, and the other way round."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp

from sanic_server import serve

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")


async def test_the_page_names_every_metric_and_no_other(loop, make_app):
    app = make_app({"OPENAI_API_KEY": "k" * 20, "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"})

    async with (
        serve(app) as server,
        aiohttp.ClientSession() as session,
        session.get(server.url("/metrics")) as response,
    ):
        published = set(re.findall(r"^# TYPE (chat_\w+)", await response.text(), re.MULTILINE))

    spelt_out = PAGE.replace("`…_", "`chat_openai_").replace("<provider>", "openai")
    named = {name.removesuffix("_bucket") for name in re.findall(r"\bchat_\w+", spelt_out)}
    assert named == published
