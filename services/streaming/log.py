"""The stream log: an append-only list of frames that remembers one answer for its readers.

A reader keeps its own position and is woken when there is more. Between the provider and one local
socket there is no queue, lock or extra task: `append` wakes the reader, and the reader writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

FORGET_EVERY = 256  # frames that a log without memory lets gather before it drops them together


class Reader(Protocol):
    """Something that follows a log, usually a connection."""

    def wake(self) -> None:
        """Called after something was appended. Synchronous; never raises."""
        ...


class Readable(Protocol):
    """An answer with a log: one that runs here, one that runs elsewhere, or one that is over."""

    @property
    def id(self) -> str:
        """Its name, or nothing if it has none to be asked for by."""
        ...

    @property
    def resumable(self) -> bool:
        """Whether its frames are numbered."""
        ...

    @property
    def log(self) -> StreamLog:
        """Its frames so far."""
        ...

    def attach(self, reader: Reader) -> AbstractContextManager[None]:
        """Wake *reader* while the block runs, and keep the answer going for it."""
        ...


class Room:
    """The bytes that all logs of a process hold together, and their *limit*."""

    __slots__ = ("held", "limit", "make_room")

    def __init__(self, limit: int, make_room: Callable[[], None] = lambda: None) -> None:
        self.limit = limit
        self.held = 0
        self.make_room = make_room  # called when the limit is passed; may release logs

    @property
    def full(self) -> bool:
        """Whether more is held than may be."""
        return self.held > self.limit


class StreamLog:
    """Frames of one stream, numbered in the order they were appended, from the one after *after*.

    Without *keep*, for the one reader of a plain stream, frames are forgotten once they were read.
    """

    __slots__ = ("_frames", "_gone", "_keep", "_readers", "_room", "end", "ended", "size")

    def __init__(self, room: Room | None = None, *, keep: bool = True, after: int = 0) -> None:
        self._frames: list[bytes] = []
        self._gone = after  # how many frames came before those in `_frames`
        self._readers: list[Reader] = []
        self._room = room or Room(0)
        self._keep = keep
        self.end = after  # the number of the last frame
        self.size = 0
        self.ended = False

    def __len__(self) -> int:
        return self.end

    def append(self, frames: Sequence[bytes], *, last: bool = False) -> None:
        """Add *frames* and wake every reader; with *last*, nothing can follow."""
        if self.ended:
            raise RuntimeError("the log has ended")
        self._frames += frames
        self.end += len(frames)
        size = len(frames[0]) if len(frames) == 1 else sum(map(len, frames))
        self.size += size
        self.ended = last
        room = self._room
        room.held += size
        if room.held > room.limit:
            room.make_room()
        for reader in tuple(self._readers):
            reader.wake()

    def read(self, after: int, limit: int) -> tuple[bytes, int]:
        """Whole frames that follow number *after*, joined, and the number of the last one.

        At most *limit* bytes, but always one frame if there is one.
        """
        frames = self._frames
        start, end = after - self._gone, len(frames)
        if end - start == 1 and (self._keep or start < FORGET_EVERY):
            # The usual case: one token, one reader, up to date.
            return frames[start], after + 1
        size, stop = 0, start
        while stop < end and (size == 0 or size + len(frames[stop]) <= limit):
            size += len(frames[stop])
            stop += 1
        data, last = b"".join(frames[start:stop]), self._gone + stop
        if not self._keep and stop > FORGET_EVERY:
            self._forget(stop)
        return data, last

    def release(self) -> None:
        """Give back the room of a log that nobody will read again; more than once does nothing."""
        self._room.held -= sum(map(len, self._frames))
        self._room = Room(0)

    def attach(self, reader: Reader) -> None:
        """Wake *reader* from now on."""
        self._readers.append(reader)

    def detach(self, reader: Reader) -> None:
        """Wake *reader* no more."""
        self._readers.remove(reader)

    def _forget(self, count: int) -> None:
        self._room.held -= sum(map(len, self._frames[:count]))
        del self._frames[:count]
        self._gone += count
