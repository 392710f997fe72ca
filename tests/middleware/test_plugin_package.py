"""A stranger's package, really built and installed, takes part by its entry points alone."""

from __future__ import annotations

import json
import re
import runpy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stranger import chat, pip_install

from services.events import Finish, TextDelta
from services.turn import Turn

PACKAGE = Path(__file__).parent / "plugin_package"
MODULE = runpy.run_path(str(PACKAGE / "chat_sample_plugins" / "redact_words.py"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip has put the package."""
    return pip_install(PACKAGE, tmp_path_factory.mktemp("installed"))


def test_installed_plugins_take_part_when_the_setting_names_them(site):
    """A word that comes in three pieces is hidden, and every answer has the header."""
    process = chat(
        site,
        ["The pass", "wo", "rd is not a Password", "s."],
        MIDDLEWARE="request_id,auth,redact_words,served_by",
        MIDDLEWARE_REDACT_WORDS_WORDS="password,secret",
        MIDDLEWARE_SERVED_BY_NAME="replica 7",
    )

    assert process.returncode == 0, process.stderr
    said: dict[str, Any] = json.loads(process.stdout)
    assert said["tokens"] == ["The ", "*** is not a ", "Passwords."]
    assert said["order"] == ["token", "token", "token", "usage", "done"]
    assert said["headers"]["x-served-by"] == "replica 7"


def test_a_word_held_back_to_the_end_still_comes_before_usage_and_done(site):
    process = chat(
        site,
        ["It is sec"],
        MIDDLEWARE="auth,redact_words",
        MIDDLEWARE_REDACT_WORDS_WORDS="secret",
    )

    said = json.loads(process.stdout)
    assert said["tokens"] == ["It is ", "sec"]
    assert said["order"] == ["token", "token", "usage", "done"]


def test_installed_plugins_are_inert_until_then(site):
    process = chat(site, ["The password"], MIDDLEWARE="request_id,auth")

    assert process.returncode == 0, process.stderr
    said = json.loads(process.stdout)
    assert said["tokens"] == ["The password"]
    assert "x-served-by" not in said["headers"]


def test_an_installed_plugin_without_its_option_stops_the_start(site):
    process = chat(site, [], MIDDLEWARE="served_by")

    assert process.returncode == 1
    assert process.stderr.endswith(
        "settings.BadSetting: MIDDLEWARE_SERVED_BY_NAME: Field required\n"
    )


RedactWords = MODULE["RedactWords"]
WORDS = ("secret", "secrets", "élan", "no")
TEXT = st.lists(
    st.sampled_from(
        ["secret", "Secrets", "sec", "ret", "s", "élan", "no", "now", " ", ".", "\n", "x"]
    )
).map("".join)


@given(TEXT, st.lists(st.integers(0, 60)))
def test_where_an_answer_is_cut_does_not_matter(text, cuts):
    plug = RedactWords(RedactWords.Options(words=WORDS))
    turn = Turn("req_1", "user-1", "a question")
    at = [0, *sorted(cut for cut in cuts if cut <= len(text)), len(text)]
    pieces = [TextDelta(text[start:end]) for start, end in pairwise(at)]

    events = [out for event in (*pieces, Finish("stop")) for out in plug.on_event(turn, event)]

    assert events[-1] == Finish("stop")
    whole = re.sub(r"(?i)\b(?:secrets?|élan|no)\b", "***", text)
    assert "".join(event.text for event in events[:-1]) == whole


def test_a_text_without_spaces_is_not_held_back():
    """Chinese is written without: holding back the last word would hold back the answer."""
    plug = RedactWords(RedactWords.Options(words=WORDS))
    turn = Turn("req_1", "user-1", "a question")

    events = [out for piece in "天下大事" for out in plug.on_event(turn, TextDelta(piece))]

    assert events == [TextDelta("天"), TextDelta("下"), TextDelta("大"), TextDelta("事")]


def test_turns_at_the_same_time_do_not_share_text():
    plug = RedactWords(RedactWords.Options(words=WORDS))
    one = Turn("req_same", "user-1", "a question")
    two = Turn("req_same", "user-2", "a question")

    held = [*plug.on_event(one, TextDelta("sec")), *plug.on_event(two, TextDelta("ret"))]

    assert held == [TextDelta("ret")]
    assert [*plug.on_event(one, Finish("stop"))] == [TextDelta("sec"), Finish("stop")]
