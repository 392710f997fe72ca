"""The stream log: an append-only list of frames that remembers one answer for its readers.

A reader keeps its own position and is woken when there is more. Between the provider and one local
socket there is no queue, lock or extra task: `append` wakes the reader, and the reader writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Reader(Protocol):
    """Something that follows a log, usually a connection."""

    def wake(self) -> None:
        """Called after something was appended. Synchronous; never raises."""
        ...


class StreamLog:
    """Frames of one stream, numbered from 1 in the order they were appended."""

    __slots__ = ("_frames", "_readers", "end", "ended", "size")

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._readers: list[Reader] = []
        self.end = 0
        self.size = 0
        self.ended = False

    def __len__(self) -> int:
        return self.end

    @property
    def readers(self) -> int:
        """How many readers follow the log now."""
        return len(self._readers)

    def append(self, frames: Sequence[bytes], *, last: bool = False) -> None:
        """Add *frames* and wake every reader; with *last*, nothing can follow."""
        if self.ended:
            raise RuntimeError("the log has ended")
        self._frames += frames
        self.end += len(frames)
        for frame in frames:
            self.size += len(frame)
        self.ended = last
        for reader in tuple(self._readers):
            reader.wake()

    def read(self, after: int, limit: int) -> tuple[bytes, int]:
        """Whole frames that follow number *after*, joined, and the number of the last one.

        At most *limit* bytes, but always one frame if there is one.
        """
        frames, end = self._frames, self.end
        if end - after == 1:  # the usual case: one token, one reader, up to date
            return frames[after], end
        size, stop = 0, after
        while stop < end and (size == 0 or size + len(frames[stop]) <= limit):
            size += len(frames[stop])
            stop += 1
        return b"".join(frames[after:stop]), stop

    def attach(self, reader: Reader) -> None:
        """Wake *reader* from now on."""
        self._readers.append(reader)

    def detach(self, reader: Reader) -> None:
        """Wake *reader* no more."""
        self._readers.remove(reader)
