"""What the page on the wire protocol shows and lists is what is sent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from blueprints.problems import HttpRefused
from services import errors
from services.events import FinishReason
from services.streaming.replay import STREAM_LOST

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "wire-protocol.md").read_text("utf-8")
EXAMPLE = re.compile(r"(?:<!-- (\S+\.txt) -->\n)?```(\w*)\n(.*?)```", re.DOTALL)


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose first heading is *heading*."""
    _, _, rest = PAGE.partition(f"\n| {heading} |")
    lines = rest.partition("\n\n")[0].split("\n")[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def subclasses(base: type) -> list[type]:
    return [each for direct in base.__subclasses__() for each in (direct, *subclasses(direct))]


def test_every_example_is_part_of_a_recorded_transcript():
    examples = EXAMPLE.findall(PAGE)

    assert len(examples) > 10
    for name, _, text in examples:
        assert name, text
        assert text in (ROOT / "tests" / "wire" / "golden" / name).read_text("ascii"), name


def test_every_finish_reason_is_listed():
    listed = [reason.strip("`") for reason, _ in rows("`finish_reason`")]

    assert listed == list(get_args(FinishReason))


def test_every_sentence_is_listed_with_its_code():
    listed = {code.strip("`"): sentence for code, sentence, _ in rows("`code`")}

    known = {each.code: each.sentence for each in subclasses(errors.ProviderError)}
    assert listed == known | {STREAM_LOST: "none"}


def test_every_error_is_listed_with_its_status():
    listed = {(int(status), code.strip("`")) for status, code, _ in rows("status")}

    classes = {errors.ServiceError, *subclasses(errors.ServiceError)} - {HttpRefused}
    known = {(each.status, each.code) for each in classes if each.__module__ == errors.__name__}
    assert listed == known | {(405, HttpRefused(405, {}).code)}
