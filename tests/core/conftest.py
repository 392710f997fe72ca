"""Streams without a server: an accountant that needs nothing, and a place for one stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import pytest
from logged import logged

from services.pricing import Prices
from services.report import Accountant, Report
from services.streaming.chat_stream import ChatStream
from services.streaming.hooks import EventHook
from services.streaming.log import Room
from services.tokens import Tokenizer
from services.turn import Turn

MakeStream: TypeAlias = Callable[..., ChatStream]


@pytest.fixture
def accountant() -> Accountant:
    """Counts four bytes as a token, at the built-in prices."""
    return Accountant(Tokenizer(), Prices())


@pytest.fixture
def ended() -> list[ChatStream]:
    """The streams that said they had ended, in that order."""
    return []


@pytest.fixture
def make_stream(accountant: Accountant, ended: list[ChatStream]) -> MakeStream:
    """Makes a stream that no connection reads, unless a test attaches one."""

    def make(
        *hooks: EventHook,
        resumable: bool = False,
        grace: float = 0.0,
        max_bytes: int = 4_194_304,
        room: Room | None = None,
        letting_go: float = 1.0,
    ) -> ChatStream:
        turn = Turn("req_1", "alice", "Hello, how are you?", resumable=resumable)
        return ChatStream(
            "str_1",
            Report(turn, accountant),
            default_model="gpt-4o-mini",
            hooks=hooks,
            grace=grace,
            max_bytes=max_bytes,
            room=room or Room(268_435_456),
            on_end=ended.append,
            letting_go=letting_go,
        )

    return make


@pytest.fixture
def errors() -> Iterator[list[dict[str, Any]]]:
    """The records that were logged as warnings and errors."""
    with logged(dict, "WARNING") as records:
        yield records


def wire(stream: ChatStream) -> bytes:
    """All of a stream's log as it would be sent."""
    data, _ = stream.log.read(0, limit=1 << 30)
    return data


def names(frames: Sequence[bytes] | bytes) -> list[str]:
    """The names of the events in *frames*."""
    data = frames if isinstance(frames, bytes) else b"".join(frames)
    return [line[7:].decode() for line in data.split(b"\n") if line.startswith(b"event: ")]
