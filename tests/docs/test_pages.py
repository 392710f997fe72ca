"""What pages say of the tree is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_that_a_page_names_exists(page: Path):
    named = re.findall(r"`((?:\w+/)*\w+\.(?:py|toml|sh))`", page.read_text("utf-8"))

    # Some pages speak of the files beside them, and of a plug-in's own.
    beside = {path.name for path in ROOT.glob("services/**/*.py")} | {
        "preface.py",
        "try_preface.py",
    }
    assert [name for name in named if not (ROOT / name).exists() and name not in beside] == []


def test_the_readme_lists_every_folder_and_file_of_the_top():
    tree = re.search(
        r"^## The tree\n\n```text\n(.*?)```", (ROOT / "README.md").read_text(), re.M | re.S
    )
    assert tree is not None

    listed = {line.split()[0].rstrip("/") for line in tree[1].splitlines()}

    shipped = {path.name for path in ROOT.glob("*.py")}
    shipped |= {path.parent.name for path in ROOT.glob("*/*") if _belongs(path.parent)}
    assert listed == shipped


def test_the_readme_shows_what_the_first_command_prints():
    shown = re.search(
        r"^```console\n\$ .*?\n(:.*?)```", (ROOT / "README.md").read_text(), re.M | re.S
    )
    assert shown is not None

    golden = (ROOT / "tests" / "wire" / "golden" / "first-command.txt").read_text()

    assert shown[1].rstrip("\n") in golden


def _belongs(folder: Path) -> bool:
    return not folder.name.startswith((".", "_")) and folder.name not in {"logs", "data", "build"}
