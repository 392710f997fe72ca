"""The event stream decoder against the standard, for every way bytes can be cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.providers.event_decoder import EventDecoder, EventTooLong


def decode(*chunks: bytes) -> list[bytes]:
    decoder = EventDecoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\n\r\ndata: b\r\n\n", [b"a", b"b"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\ndata: c\n\n", [b"a", b"c"]),
        (b"event: x\nid: 7\nretry: 9\ndata: a\n\n", [b"a"]),
        (b": keep-alive\n\ndata: a\n: hm\n\n", [b"a"]),
        (b"\n\n\ndata: a\n\n\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data\n\ndata:\n\ndata: \n\nevent: x\n\n", []),
        (b"datax: a\n\nx data: b\n\n", []),
        (b"data: a\n\ndata: never finished\n", [b"a"]),
        (b'data: {"a":"data: b"}\n\n', [b'{"a":"data: b"}']),
        ("data: é😀\n\n".encode(), ["é😀".encode()]),
    ],
)
def test_the_standard_is_kept_wherever_the_stream_is_cut_in_two(
    stream: bytes, events: list[bytes]
) -> None:
    for cut in range(len(stream) + 1):
        assert decode(stream[:cut], stream[cut:]) == events

    assert decode(*(stream[i : i + 1] for i in range(len(stream)))) == events


line = st.binary(max_size=12).map(lambda raw: raw.translate(None, b"\r\n"))
block = st.lists(st.tuples(st.sampled_from([b"data: ", b"data:", b": ", b"event: ", b"x"]), line))


@given(
    blocks=st.lists(block, max_size=6),
    ending=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
def test_no_cut_and_no_line_ending_changes_the_events(
    blocks: list[list[tuple[bytes, bytes]]], ending: bytes, cuts: list[int]
) -> None:
    lines = [b"".join(parts) for block in blocks for parts in [*block, (b"",)]]
    plain = b"".join(line + b"\n" for line in lines)
    stream = b"".join(line + ending for line in lines)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    expected = [
        data
        for block in blocks
        if (data := b"\n".join(_values(block)))  # the standard, in the plainest way
    ]

    assert decode(plain) == expected
    assert decode(*(stream[a:b] for a, b in pairwise(edges))) == expected


def _values(block: list[tuple[bytes, bytes]]) -> list[bytes]:
    lines = [b"".join(parts) for parts in block]
    fields = [line.partition(b":") for line in lines]
    return [value.removeprefix(b" ") for name, _, value in fields if name == b"data"]


def test_an_event_longer_than_the_limit_is_refused_and_not_hoarded() -> None:
    decoder = EventDecoder(limit=1000)

    for _ in range(10):
        decoder.feed(b"data: " + b"x" * 94)

    with pytest.raises(EventTooLong):
        decoder.feed(b"x")


def test_many_short_events_in_one_chunk_may_exceed_the_limit_of_one_event() -> None:
    decoder = EventDecoder(limit=100)

    assert len(decoder.feed(b"data: x\n\n" * 1000)) == 1000
    assert len(decoder.feed(b"data: x\n\n" * 1000)) == 1000
