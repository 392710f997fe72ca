"""OpenAI's dialect, over a real socket."""

from __future__ import annotations

import traceback
from itertools import pairwise

import pytest
from answers import batches_of, events_of, failure_of, text_of
from dialects import DONE, chunk, data, openai_events, usage_chunk
from hypothesis import given
from hypothesis import strategies as st
from replies import drips, drops, gzips, refuses, sends_at_once
from upstream import Upstream, openai, sends

from services.events import Attempt, Connected, Event, Finish, TextDelta, Usage
from services.providers.openai import OpenAI, OpenAIAnswer
from services.providers.transport import Transport
from services.turn import Prompt

pytestmark = pytest.mark.usefixtures("reading")

MODEL = "gpt-4o-mini"
DATED = "gpt-4o-mini-2024-07-18"


COUNTED = {"prompt_tokens": 5, "completion_tokens": 2}


def _raw(event: str) -> bytes:
    return f"data: {event}\n\n".encode()


def _said(text: str, **fields: object) -> bytes:
    return data({"choices": [{"delta": {"content": text}}], **fields})


async def test_an_answer_becomes_connected_text_usage_finish(
    provider: OpenAI, upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(openai("Hello", " world", usage=(19, 2)))

    attempt, connected, *rest = [e for batch in await batches_of(provider, prompt) for e in batch]

    assert attempt == Attempt("openai", "gpt-4o-mini")
    assert isinstance(connected, Connected)
    assert (connected.provider, connected.model) == ("openai", "gpt-4o-mini")
    assert connected.connect > 0
    assert rest == [
        TextDelta("Hello"),
        TextDelta(" world"),
        Usage(19, 2, DATED),
        Finish("stop"),
    ]


async def test_what_one_read_brings_is_one_batch(
    provider: OpenAI, upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(sends_at_once(*openai_events("a", "b", "c")))

    batches = await batches_of(provider, prompt)

    # Attempt; Connected; three deltas, Usage, Finish
    assert list(map(len, batches)) == [1, 1, 5]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("model_length", "length"),
        ("content_filter", "content_filter"),
        ("tool_calls", "stop"),
        ("function_call", "stop"),
        ("eos_token", "stop"),
    ],
)
async def test_every_finish_reason_has_its_word(
    provider: OpenAI, upstream: Upstream, prompt: Prompt, reason: str, expected: str
) -> None:
    upstream.plays(openai("x", reason=reason))

    events = await events_of(provider, prompt)

    assert [e.reason for e in events if isinstance(e, Finish)] == [expected]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        pytest.param(
            [chunk("a"), chunk(reason="stop"), usage_chunk(9, 4, cached=6, reasoning=3), DONE],
            [TextDelta("a"), Usage(9, 4, DATED, cached=6), Finish("stop")],
            id="cached and reasoning tokens are part of the totals",
        ),
        pytest.param(
            [chunk("a"), chunk(reason="stop"), DONE],
            [TextDelta("a"), Finish("stop")],
            id="no usage",
        ),
        pytest.param(
            [chunk("a"), chunk(reason="stop"), usage_chunk(9, 4)],
            [TextDelta("a"), Usage(9, 4, DATED), Finish("stop")],
            id="no DONE",
        ),
        pytest.param(
            [data({"choices": [{"delta": {"refusal": "I can't."}}]}), chunk(reason="stop"), DONE],
            [TextDelta("I can't."), Finish("stop")],
            id="a refusal is what the user reads",
        ),
        pytest.param(
            [
                data({"choices": [{"index": 1, "delta": {"content": "B"}}]}),
                data({"choices": [{"index": 0, "delta": {"content": "A"}}]}),
                data({"choices": [{"index": 1, "delta": {}, "finish_reason": "length"}]}),
                data({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
                DONE,
            ],
            [TextDelta("A"), Finish("stop")],
            id="the first choice only",
        ),
        pytest.param(
            [
                b": OPENROUTER PROCESSING\n\n",
                data({"choices": [], "prompt_filter_results": [{"x": 1}]}),
                data({"new": {"deep": [1]}, "choices": None, "error": None, "model": None}),
                data({"choices": [{"delta": None}]}),
                data({"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]}),
                data({"choices": [{"delta": {"content": "a", "x": 1}, "finish_reason": None}]}),
                data(
                    {
                        "choices": [{"delta": {"content": "b"}, "finish_reason": "stop"}],
                        "usage": None,
                    }
                ),
                DONE,
                data({"choices": [{"delta": {"content": "after the end"}}]}),
            ],
            [TextDelta("a"), TextDelta("b"), Finish("stop")],
            id="unknown fields, nulls and comments",
        ),
        pytest.param(
            [
                data(
                    {
                        "choices": [
                            {"index": None, "delta": {"content": "a"}, "finish_reason": "stop"}
                        ]
                    }
                )
            ],
            [TextDelta("a"), Finish("stop")],
            id="a choice without a number is the first",
        ),
        pytest.param(
            [
                _raw(r'{"choices":[{"delta":{"content":"a\ud83d"}}]}'),
                _raw(r'{"choices":[{"delta":{"content":""}}]}'),
                _raw(r'{"choices":[{"delta":{"content":"\ude00b"}}]}'),
                _raw(r'{"choices":[{"delta":{"content":"\ude00c\ud83d\ude00"}}]}'),
                chunk(reason="stop"),
                DONE,
            ],
            [
                TextDelta("a"),
                TextDelta("😀b"),
                TextDelta("\ufffdc😀"),
                Finish("stop"),
            ],
            id="a character torn in two, and half of one",
        ),
        pytest.param(
            [
                _said("a", usage={"prompt_tokens": 9, "completion_tokens": 1}),
                _said("b", usage={"prompt_tokens": 9, "completion_tokens": 2}),
                chunk(reason="stop"),
                usage_chunk(9, 4),
                DONE,
            ],
            [
                TextDelta("a"),
                Usage(9, 1, MODEL, estimated=True),
                TextDelta("b"),
                Usage(9, 2, MODEL, estimated=True),
                Usage(9, 4, DATED),
                Finish("stop"),
            ],
            id="counts as it goes",
        ),
        pytest.param(
            [chunk("a"), chunk(reason="stop"), _said("", model="a\0b", usage=COUNTED), DONE],
            [TextDelta("a"), Usage(5, 2, MODEL), Finish("stop")],
            id="a model's name that no database takes",
        ),
        pytest.param(
            [
                chunk("a"),
                chunk(reason="stop"),
                _said("", model="m" * 200, usage=COUNTED),
                _said("", model="m" * 201, usage=COUNTED),
                DONE,
                DONE,
            ],
            [TextDelta("a"), Usage(5, 2, "m" * 200), Finish("stop")],
            id="a model's name without end, and the end twice",
        ),
        pytest.param(
            [chunk("é😀\u2028\r\n\n\ndata: x"), chunk(reason="stop"), DONE],
            [TextDelta("é😀\u2028\r\n\n\ndata: x"), Finish("stop")],
            id="any text",
        ),
    ],
)
async def test_the_dialect_is_understood(
    provider: OpenAI,
    upstream: Upstream,
    prompt: Prompt,
    stream: list[bytes],
    events: list[Event],
) -> None:
    upstream.plays(sends(stream), sends_at_once(*stream), drips(b"".join(stream)))

    for _ in range(3):
        assert await events_of(provider, prompt) == events


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({}, None),
        ([], None),
        ("none", None),
        ({"prompt_tokens": None, "completion_tokens": None}, None),
        ({"prompt_tokens": -5000, "completion_tokens": 2}, None),
        ({"prompt_tokens": 5.0, "completion_tokens": 2}, None),
        ({"prompt_tokens": True, "completion_tokens": 2}, None),
        ({"prompt_tokens": 1 << 31, "completion_tokens": 2}, None),
        ({"prompt_tokens": 10**90, "completion_tokens": 2}, None),
        ({"prompt_tokens": float("inf"), "completion_tokens": 2}, None),
        ({"completion_tokens": 2}, None),
        ({"prompt_tokens": 5}, Usage(5, 0, MODEL, estimated=True)),
        ({"prompt_tokens": 5, "completion_tokens": -1}, Usage(5, 0, MODEL, estimated=True)),
        (COUNTED | {"prompt_tokens_details": {"cached_tokens": -7}}, Usage(5, 2, MODEL)),
        (COUNTED | {"prompt_tokens_details": {"cached_tokens": 7}}, Usage(5, 2, MODEL, cached=5)),
        (COUNTED | {"prompt_tokens_details": [7]}, Usage(5, 2, MODEL)),
    ],
)
async def test_what_is_no_count_neither_counts_nor_cuts_an_answer(
    provider: OpenAI, upstream: Upstream, prompt: Prompt, usage: object, counted: Usage | None
) -> None:
    during = sends([_said("a"), _said("b", usage=usage), chunk(reason="stop"), DONE])
    after = sends([_said("a"), _said("b"), chunk(reason="stop"), _said("", usage=usage), DONE])
    upstream.plays(during, after)

    assert await text_of(provider, prompt) == "ab"
    *said, finish = await events_of(provider, prompt)

    assert finish == Finish("stop")
    assert said == [TextDelta("a"), TextDelta("b"), *([counted] if counted else [])]


async def test_a_count_with_more_digits_than_python_reads_cuts_no_answer(
    provider: OpenAI, upstream: Upstream, prompt: Prompt
) -> None:
    usage = '{"prompt_tokens":5,"completion_tokens":%s}' % ("9" * 5000)
    said = _raw(f'{{"choices":[{{"index":0,"delta":{{"content":"a"}}}}],"usage":{usage}}}')
    upstream.plays(sends([said, chunk(reason="stop"), DONE]))

    events = await events_of(provider, prompt)

    so_far = Usage(5, 0, MODEL, estimated=True)
    assert events == [TextDelta("a"), so_far, so_far, Finish("stop")]


async def test_a_compressed_answer_is_read_although_nobody_asked_for_it(
    provider: OpenAI, upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(gzips(b"".join(openai_events("Hello", " world"))))

    text = await text_of(provider, prompt)

    assert text == "Hello world"
    assert upstream.requests[0].headers["accept-encoding"] == "identity"


async def test_a_huge_delta_is_cut_into_frames_of_bounded_size(
    provider: OpenAI, upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(openai("x" * 20_000))

    events = await events_of(provider, prompt)

    assert [len(e.text) for e in events if isinstance(e, TextDelta)] == [8192, 8192, 3616]


def _spoken(chunks: list[bytes]) -> list[Event]:
    answer, events = OpenAIAnswer("openai", MODEL), list[Event]()
    for piece in chunks:
        answer.feed(piece, events)
    return events


@given(
    texts=st.lists(st.text(min_size=1, max_size=20), max_size=8),
    cuts=st.lists(st.integers(0, 4000)),
)
def test_no_cut_changes_what_was_said(texts: list[str], cuts: list[int]) -> None:
    stream = b"".join(openai_events(*texts, usage=(5, len(texts))))
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]

    events = _spoken([stream[a:b] for a, b in pairwise(edges)])

    assert events == [*map(TextDelta, texts), Usage(5, len(texts), DATED), Finish("stop")]


async def test_the_key_is_in_no_error(upstream: Upstream, prompt: Prompt) -> None:
    for script in (refuses(401), drops(headers=False), sends([b"data: {\n\n"])):
        upstream.plays(script)
        async with Transport("openai") as transport:
            provider = OpenAI(transport, api_key="sk-planted", model=MODEL, base_url=upstream.url)

            _, error = await failure_of(provider, prompt)

        assert "sk-planted" not in "".join(traceback.format_exception(error))
        assert "sk-planted" not in repr(error)
