"""Answers that are over: stored ones, read again, and lost ones, which are told to have ended.

How many events a lost answer had, nobody knows: what its process sent last may have been copied
nowhere. So each reader is told the end as the event after its own last one, and what is the end for
one may have been a word for another. Its `id:` has a leading zero, `013`. That is the same
number, and whoever sends it back has read the end, which the number alone could not say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from services.events import Finish
from services.streaming import sse
from services.streaming.log import Reader, StreamLog

STREAM_LOST = "STREAM_LOST"


class Replay:
    """An answer that is over, as its log remembers it."""

    resumable = True

    def __init__(self, stream_id: str, log: StreamLog) -> None:
        self.id = stream_id
        self.log = log

    @contextmanager
    def attach(self, reader: Reader) -> Iterator[None]:
        """Nothing will be appended, so there is nothing to wake *reader* for."""
        yield


def stored(stream_id: str, frames: Sequence[bytes]) -> Replay:
    """The complete answer that consists of *frames*."""
    log = StreamLog()
    log.append(frames, last=True)
    return Replay(stream_id, log)


def lost(stream_id: str, after: int) -> Replay:
    """The end of a lost answer, for a reader that has *after* of its events."""
    log = StreamLog(after=after)
    log.append([lost_frame(after + 1)], last=True)
    return Replay(stream_id, log)


def lost_frame(number: int) -> bytes:
    """The `done` that ends a lost answer as event *number*."""
    frame = sse.encode(Finish("error", code=STREAM_LOST), number)
    assert frame is not None  # noqa: S101 - a Finish is always for the wire
    data, _, _ = frame.rpartition(b"id: ")
    return b"%bid: 0%d\n\n" % (data, number)


def says_the_end(event_id: str) -> bool:
    """Whether *event_id*, a number, is that of the `done` of a lost answer."""
    return event_id.startswith("0") and int(event_id) > 0
