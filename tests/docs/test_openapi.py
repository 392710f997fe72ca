"""The committed OpenAPI document is the generated one, and is sound."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema_rs import Draft202012Validator
from openapi_spec_validator import validate

from blueprints.openapi import document, render
from sanic_server import serve

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"
DOCS = "/docs"  # the page for people, and the document itself


def test_the_committed_document_is_what_the_code_says():
    assert COMMITTED.read_text("utf-8") == render(), "run `make reference`"


def test_the_document_is_openapi():
    validate(json.loads(render()))


async def test_it_has_every_route_of_the_app_and_no_other(loop, make_app):
    served = set()
    async with serve(make_app()) as server:
        for route in server.app.router.routes:
            path = re.sub(r"<(\w+):str>", r"{\1}", f"/{route.path.strip('/')}")
            if not path.startswith(DOCS):
                served |= {(path, method) for method in route.methods - {"HEAD", "OPTIONS"}}

    documented = {
        (path, method.upper())
        for path, item in document()["paths"].items()
        for method in item.keys() - {"parameters"}
    }

    assert documented == served


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(operation, id=operation["operationId"])
        for item in document()["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    ],
)
def test_every_example_fits_its_schema(operation):
    components = {"components": document()["components"]}
    for response in operation["responses"].values():
        for media in response.get("content", {}).values():
            for example in media.get("examples", {}).values():
                Draft202012Validator(media["schema"] | components).validate(example["value"])
