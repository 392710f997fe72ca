"""Threads that write log lines, so that neither the event loop nor another output waits for a disk or a pipe."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Protocol, TypeAlias

from settings.log_lines import Entry

# About 10 MB of lines: more only wait for a reader that is gone.
_MOST_WAITING = 20_000
_BATCH = 500
# Seconds that lines wait for others. A thread that wakes for each line takes the interpreter from the
# event loop in the middle of a request: with it the first token took 1.2 times as long.
_LINGER = 0.1
# Seconds that the end waits for outputs to take what is left.
PATIENCE = 5.0


class Target(Protocol):
    """Takes encoded lines; raises `OSError` when it can't."""

    def write(self, lines: bytes, /) -> object:
        """Write *lines*, which end with a line feed, all of them."""
        ...

    def close(self) -> None:
        """Let go of what `write` needs."""
        ...


Encode: TypeAlias = Callable[[Entry], str]


@dataclass(frozen=True, slots=True)
class Output:
    """Where lines go, and in which form."""

    name: str
    target: Target
    encode: Encode


class LogWriter:
    """Writes entries to all outputs, in order: one thread encodes them, and each output has its own that writes.

    An output behind which more than 20,000 lines wait loses further ones, and it alone. It says how many
    once it goes on; the others say that it is stuck, and at the end what it never wrote.
    """

    def __init__(self, outputs: Sequence[Output]) -> None:
        self._waiting: SimpleQueue[Entry | None] = SimpleQueue()
        self._dropped = 0
        self._closing = threading.Event()
        self._closed = False
        self._lanes = [_Lane(output, self.put) for output in outputs]
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()
        # A process that dies of an exception still says why.
        atexit.register(self.close)

    def put(self, entry: Entry) -> None:
        """Have *entry* written soon. Never blocks."""
        if self._waiting.qsize() >= _MOST_WAITING:
            self._dropped += 1
        else:
            self._waiting.put(entry)

    def close(self, patience: float = PATIENCE) -> None:
        """Write what waits, for *patience* seconds at most, and stop. Safe to call again."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        deadline = monotonic() + patience
        self._closing.set()
        self._waiting.put(None)
        self._thread.join(patience)
        ended = [lane for lane in self._lanes if lane.ends_by(deadline)]
        for stuck in self._lanes:
            if stuck not in ended:
                for lane in ended:
                    lane.write([_lines_dropped(stuck.missing, stuck.name)])
        for lane in ended:
            lane.close()

    def _run(self) -> None:
        for batch in self._batches():
            if self._dropped:
                # Entries may be dropped between these two; such a count is a hint, not an account.
                count, self._dropped = self._dropped, 0
                for lane in self._lanes:
                    lane.miss(count)
            self._hand_out(batch, self._lanes)
        for lane in self._lanes:
            lane.end()

    def _hand_out(self, batch: Sequence[Entry], lanes: Iterable[_Lane]) -> None:
        lines: dict[Encode, bytes] = {}  # two outputs may want the same ones
        for lane in lanes:
            if lane.encode not in lines:
                lines[lane.encode] = _encoded(lane.encode, batch)
            if lane.take(lines[lane.encode], len(batch)):
                stuck = _notice("Log output is stuck", output=lane.name)
                self._hand_out([stuck], [other for other in self._lanes if other is not lane])

    def _batches(self) -> Iterator[list[Entry]]:
        while (first := self._waiting.get()) is not None:
            if self._waiting.qsize() < _BATCH:
                self._closing.wait(_LINGER)
            batch = [first]
            try:
                while len(batch) < _BATCH and (entry := self._waiting.get_nowait()) is not None:
                    batch.append(entry)
                more = len(batch) == _BATCH
            except Empty:
                more = True
            # `access_log` hands in the line of a question late; it still comes before what followed from it.
            batch.sort(key=attrgetter("time"))
            yield batch
            if not more:
                return


class _Lane:
    """One output, with the thread that writes to it.

    `take`, `miss` and `end` are the encoding thread's. Each count has one thread that changes it, so that
    none is lost without a lock.
    """

    def __init__(self, output: Output, tell: Callable[[Entry], None]) -> None:
        self.name = output.name
        self.encode = output.encode
        self._target = output.target
        self._tell = tell
        self._waiting: SimpleQueue[tuple[bytes, int] | None] = SimpleQueue()
        self._taken = 0
        self._dropped = 0
        self._written = 0
        self._told = 0  # of those that were dropped
        self._stuck = False
        self._broken = False  # from a failed write to the next good one
        self._thread = threading.Thread(
            target=self._run, name=f"log-writer {output.name}", daemon=True
        )
        self._thread.start()

    @property
    def missing(self) -> int:
        """Lines that are not written, and of which it has not said so."""
        return self._taken - self._written + self._dropped - self._told

    def take(self, lines: bytes, count: int) -> bool:
        """Have *count* *lines* written, or dropped; whether these are the first it has no room for."""
        if self._taken - self._written < _MOST_WAITING:
            self._taken += count
            self._waiting.put((lines, count))
            self._stuck = False
            return False
        self.miss(count)
        known, self._stuck = self._stuck, True
        return not known

    def miss(self, count: int) -> None:
        """Count lines that it never gets."""
        self._dropped += count

    def end(self) -> None:
        """End when what waits is written."""
        self._waiting.put(None)

    def ends_by(self, deadline: float) -> bool:
        """Whether its thread has ended by then: from now on `write` and `close` are the caller's."""
        self._thread.join(max(0.0, deadline - monotonic()))
        return not self._thread.is_alive()

    def write(self, batch: Sequence[Entry]) -> None:
        """Write at once."""
        self._write(_encoded(self.encode, batch))

    def close(self) -> None:
        """Let go of the output."""
        self._target.close()

    def _run(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            lines, count = waiting
            self._write(lines)
            self._written += count
            if new := self._dropped - self._told:
                self.write([_lines_dropped(new, self.name)])
                self._told += new

    def _write(self, lines: bytes) -> None:
        try:
            self._target.write(lines)
            self._broken = False
        except (OSError, ValueError) as exc:  # ValueError: the file object is closed
            if not self._broken:
                self._broken = True
                self._tell(_notice("Log output fails", output=self.name, error=str(exc)))


def _encoded(encode: Encode, batch: Sequence[Entry]) -> bytes:
    lines = "".join(f"{_line(encode, entry)}\n" for entry in batch)
    return lines.encode("utf-8", "backslashreplace")


def _line(encode: Encode, entry: Entry) -> str:
    try:
        return encode(entry)
    except Exception as exc:
        # A field's `__str__` is anybody's code, and the thread must outlive it.
        kind = type(exc).__name__
        return encode(_notice("Log line can't be encoded", line=entry.message, error=kind))


def _lines_dropped(count: int, output: str) -> Entry:
    return _notice("Log lines dropped", output=output, count=count)


def _notice(message: str, **fields: str | int) -> Entry:
    return Entry(datetime.now(UTC), "WARNING", message, __name__, fields)
