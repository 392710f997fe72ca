"""docs/middleware.md is followed to the letter, and lists what there is."""

from __future__ import annotations

import json
import re

import pytest
from stranger import ROOT, chat, pip_install, run

from middleware.load import BUILT_IN

DOC = (ROOT / "docs" / "middleware.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory):
    """Where the tutorial's package is installed."""
    folder = tmp_path_factory.mktemp("preface")
    (folder / "preface.py").write_text(BLOCKS[1][1])
    (folder / "pyproject.toml").write_text(BLOCKS[2][1])
    return pip_install(folder, tmp_path_factory.mktemp("installed"))


def test_every_block_of_the_tutorial_is_one_that_is_tried_here():
    assert [kind for kind, _ in BLOCKS] == ["text", "python", "toml", "sh", "python"]


def test_the_plugin_of_the_tutorial_works(site):
    env = dict(line.split("=", 1) for line in BLOCKS[3][1].splitlines())

    process = chat(site, ["Be", "cause"], **env)

    assert process.returncode == 0, process.stderr
    said = json.loads(process.stdout)
    assert said["tokens"] == ["By your command: ", "Be", "cause"]
    assert said["headers"]["x-preface"] == "yes"


def test_the_plugin_of_the_tutorial_refuses_blocked_users(site):
    env = dict(line.split("=", 1) for line in BLOCKS[3][1].splitlines())

    process = chat(site, ["Be", "cause"], **env | {"ASKED_BY": "user-13"})

    assert json.loads(process.stdout)["status"] == 403


def test_the_test_of_the_tutorial_passes(site):
    process = run(site, "-c", BLOCKS[4][1])

    assert (process.returncode, process.stderr) == (0, "")


def test_every_built_in_plugin_and_option_is_listed():
    rows = dict(
        re.findall(
            r"^\| `(\w+)` \| .* \| (.*)\|$", DOC.partition("## The built-in")[2], re.MULTILINE
        )
    )
    options = {
        offer.name: {
            f"MIDDLEWARE_{offer.name}_{field}".upper(): field_info.default
            for field, field_info in offer.load().Options.model_fields.items()
        }
        for offer in BUILT_IN
    }

    assert list(rows) == [offer.name for offer in BUILT_IN]
    for name, row in rows.items():
        listed = dict(re.findall(r"`(MIDDLEWARE_\w+)` \(([\w/]+)\)", row))
        assert listed == {option: str(value).lower() for option, value in options[name].items()}
