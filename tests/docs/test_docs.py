"""What the pages say about this repository is true."""

import re
from pathlib import Path

import pytest

from settings import variables
from settings.reference import EXAMPLE, REFERENCE, example, reference

ROOT = Path(__file__).parents[2]
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
FOREIGN = re.compile(r"(^|/)(\.|node_modules/|build/)")
MACHINE_PATH = re.compile(r"(?<![\w./-])/(?:work|root|tmp|home)/\w+")


def pages():
    return [
        pytest.param(path, id=str(path.relative_to(ROOT)))
        for path in sorted(ROOT.rglob("*.md"))
        if not FOREIGN.search(str(path.relative_to(ROOT)))
    ]


def anchors(page):
    """The fragments that GitHub makes of a page's headings."""
    titles = HEADING.findall(FENCED.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", pages())
def test_every_relative_link_leads_somewhere(page):
    for target in LINK.findall(FENCED.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        if fragment and linked.suffix == ".md":
            assert fragment in anchors(linked), target


@pytest.mark.parametrize("page", pages())
def test_no_page_names_a_path_of_the_machine_it_was_written_on(page):
    assert MACHINE_PATH.findall(page.read_text()) == []


@pytest.mark.parametrize("page", pages())
def test_every_make_target_that_a_page_names_exists(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(
        re.findall(r"(?:`|^\s*(?:\$ )?|\(|&& )make ([a-z]+)", page.read_text(), re.MULTILINE)
    )

    assert named <= targets


def test_the_makefile_lists_every_target_it_offers():
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE)

    listed = re.findall(r"^([a-z]+):.*## ", text, re.MULTILINE)

    assert listed == phony.split()


@pytest.mark.parametrize(
    ("path", "generated"), [(REFERENCE, reference()), (EXAMPLE, example())], ids=["docs", "env"]
)
def test_the_reference_of_settings_is_what_the_settings_say(path, generated):
    assert path.read_text("utf-8") == generated, "run `make reference`"


@pytest.mark.parametrize("page", pages())
def test_every_setting_that_a_page_assigns_exists(page):
    known = {*variables(), "USER_ID", "EMAIL", "TTL", "ARGS", "TOKEN", "PYTHONPATH"}
    assigned = re.findall(r"`([A-Z][A-Z0-9_]{2,})=[^`\n]*`", page.read_text())

    assert {name for name in assigned if not name.startswith("MIDDLEWARE_")} <= known


def test_no_two_test_modules_share_a_name():
    """pytest imports them as top-level modules: the second one would be the first."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]

    assert sorted(names) == sorted(set(names))
