"""Server-sent events: encode events and comments as bytes.

Pure functions. What leaves here is ASCII with LF line ends and one `data:` line per event, so no
text can forge a frame and no client that splits on chunks or lines can tear one
(WHATWG HTML, "Server-sent events").
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii
from typing import Any, assert_never

from services.events import (
    Asked,
    Attempt,
    Connected,
    Event,
    Finish,
    Recalled,
    Retry,
    TextDelta,
    Usage,
)
from services.pricing import plain

CONNECTED = b": Connected to chat stream\n\n"


def encode(event: Event, number: int | None = None) -> bytes | None:
    """*event* as a frame, or None if it is not for the wire.

    *number* is the frame's place in its stream, from 1; it becomes the `id:` line, which stands after
    `data:` because some clients commit an id before its event is complete. On the last frame it also
    says how many events the whole stream has.
    """
    match event:
        case TextDelta(text):
            return encode_texts((text,), number)[0]
        case Usage():
            head, data = "usage", _usage(event)
        case Finish():
            head, data = "done", _done(event, number)
        case Recalled() | Asked() | Attempt() | Connected() | Retry():
            return None
        case _:
            assert_never(event)
    if number is None:
        return f"event: {head}\ndata: {data}\n\n".encode("ascii")
    return f"event: {head}\ndata: {data}\nid: {number}\n\n".encode("ascii")


def encode_texts(texts: Sequence[str], first: int | None = None) -> list[bytes]:
    """The frames of a `TextDelta` for each of *texts*, numbered from *first*: `encode` for many words."""
    if first is None:
        return [
            f'event: token\ndata: {{"text":{encode_basestring_ascii(text)}}}\n\n'.encode("ascii")
            for text in texts
        ]
    return [
        f'event: token\ndata: {{"text":{encode_basestring_ascii(text)}}}\nid: {number}\n\n'.encode(
            "ascii"
        )
        for number, text in enumerate(texts, first)
    ]


def comment(text: str) -> bytes:
    """A comment line, which clients ignore; *text* is ours and has no line end in it."""
    return f": {text}\n\n".encode("ascii")


def split(data: bytes) -> tuple[bytes, ...]:
    """The frames of *data* again: each ends with the only blank line in it."""
    return tuple(frame + b"\n\n" for frame in data.split(b"\n\n")[:-1])


def is_done(frame: bytes) -> bool:
    """Whether *frame* is the last one of its stream."""
    return frame.startswith(b"event: done\n")


def _usage(usage: Usage) -> str:
    # The cost is spliced in as text: json would write small numbers with an exponent.
    cost = "null" if usage.cost_usd is None else plain(usage.cost_usd)
    estimated = ',"estimated":true' if usage.estimated else ""
    return (
        f'{{"tokens_in":{usage.tokens_in},"tokens_out":{usage.tokens_out},"cost_usd":{cost},'
        f'"model":{json.dumps(usage.model)}{estimated}}}'
    )


def _done(finish: Finish, number: int | None) -> str:
    fields: dict[str, Any] = {"finish_reason": finish.reason}
    if finish.code is not None:
        fields["code"] = finish.code
    if number is not None:
        fields["events"] = number
    return json.dumps(fields, separators=(",", ":"))
