from __future__ import annotations

import json
from decimal import Decimal

from endings import PROMPT
from hypothesis import given
from hypothesis import strategies as st

from services.events import Asked, Connected, Finish, Recalled, Retry, TextDelta, Usage
from services.streaming import sse

ANY_TEXT = st.text(st.characters(), max_size=200)  # lone surrogates too


def test_a_token_is_one_event_line_one_data_line_and_a_blank_one():
    assert sse.encode(TextDelta("Hi")) == b'event: token\ndata: {"text":"Hi"}\n\n'


def test_the_id_stands_after_the_data():
    """Some clients commit an id before its event is complete, and would lose an event cut there."""
    assert sse.encode(TextDelta("Hi"), 7) == b'event: token\ndata: {"text":"Hi"}\nid: 7\n\n'


def test_a_cost_is_a_plain_decimal():
    usage = Usage(5, 15, "gpt-4o-mini", cached=3, cost_usd=Decimal("9.75E-6"))

    assert sse.encode(usage) == (
        b"event: usage\n"
        b'data: {"tokens_in":5,"tokens_out":15,"cost_usd":0.00000975,"model":"gpt-4o-mini"}\n\n'
    )


def test_a_cost_of_nothing_is_a_zero_without_an_exponent():
    usage = Usage(0, 0, "gpt-4o-mini", cost_usd=Decimal("0E-8"))

    assert b'"cost_usd":0,' in sse.encode(usage)


def test_an_estimate_without_a_price_says_both():
    assert sse.encode(Usage(1, 2, "own-model", estimated=True)) == (
        b"event: usage\n"
        b'data: {"tokens_in":1,"tokens_out":2,"cost_usd":null,"model":"own-model","estimated":true}\n\n'
    )


def test_done_says_why_and_with_a_number_how_many_events_there_were():
    assert sse.encode(Finish("length")) == b'event: done\ndata: {"finish_reason":"length"}\n\n'
    assert sse.encode(Finish("error", code="RATE_LIMIT", status=429, retry_after_ms=1000), 9) == (
        b'event: done\ndata: {"finish_reason":"error","code":"RATE_LIMIT","events":9}\nid: 9\n\n'
    )


def test_what_is_not_for_the_wire_has_no_frame():
    inside = [
        Recalled(3, 100, 0.01),
        Asked(PROMPT),
        Connected("openai", "gpt-4o-mini", 0.1),
        Retry("openai", 1, 0.5, "RATE_LIMIT"),
    ]

    assert [sse.encode(event) for event in inside] == [None, None, None, None]


def test_a_comment_is_one_line_and_a_blank_one():
    assert sse.comment("heartbeat 1704074400000") == b": heartbeat 1704074400000\n\n"
    assert sse.CONNECTED == b": Connected to chat stream\n\n"


@given(text=ANY_TEXT, number=st.none() | st.integers(1, 10**9))
def test_no_text_can_forge_a_frame_or_be_torn(text, number):
    frame = sse.encode(TextDelta(text), number)

    assert frame.isascii()
    assert b"\r" not in frame
    assert frame.count(b"\n\n") == 1
    lines = frame.decode("ascii").splitlines()  # also breaks where careless readers do
    assert lines[0] == "event: token"
    assert json.loads(lines[1].removeprefix("data: ")) == {"text": text}
    assert lines[2:] == ([""] if number is None else [f"id: {number}", ""])


@given(model=ANY_TEXT)
def test_no_model_name_can_forge_a_frame(model):
    frame = sse.encode(Usage(1, 2, model, cost_usd=Decimal("0.1")))

    assert frame.isascii()
    assert frame.count(b"\n") == 3
    assert json.loads(frame.split(b"data: ")[1])["model"] == model


@given(texts=st.lists(ANY_TEXT, min_size=1, max_size=5))
def test_frames_that_were_joined_can_be_told_apart_again(texts):
    frames = tuple(sse.encode(TextDelta(text), number) for number, text in enumerate(texts, 1))

    assert sse.split(b"".join(frames)) == frames


def test_only_done_is_done():
    assert sse.is_done(sse.encode(Finish("stop"), 3))
    assert not sse.is_done(sse.encode(TextDelta("event: done\n")))
