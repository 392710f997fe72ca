"""Answers that are over: stored ones, read again, and lost ones, which are told to have ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from services import sse
from services.events import Finish
from services.stream_log import Reader, StreamLog

STREAM_LOST = "STREAM_LOST"
REMEMBERED = 10_000  # ends of lost streams; the oldest are forgotten


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


def over(stream_id: str, events: int) -> Replay:
    """A lost answer, for a reader that has been told its end, which was event number *events*."""
    log = StreamLog(after=events)
    log.append([], last=True)
    return Replay(stream_id, log)


def lost_frame(number: int) -> bytes:
    """The `done` that ends a lost answer as event *number*."""
    frame = sse.encode(Finish("error", code=STREAM_LOST), number)
    assert frame is not None  # noqa: S101 - a Finish is always for the wire
    return frame


class Losses:
    """Ends of lost answers that were told in this process.

    A reader that has `done` gets 204, but of a lost answer nobody knows how many events it had. So
    the end a reader was told is remembered, and a reader that comes back with its number has it.
    """

    def __init__(self) -> None:
        self._told: dict[tuple[str, int], None] = {}  # oldest first

    def tell(self, name: str, stream_id: str, after: int) -> Replay:
        """What a reader of the lost answer *name* gets that has *after* events."""
        if (name, after) in self._told:
            return over(stream_id, after)
        self._told[name, after + 1] = None
        while len(self._told) > REMEMBERED:
            del self._told[next(iter(self._told))]
        return lost(stream_id, after)
