"""A thread that writes log lines, so that the event loop never waits for a disk or a pipe."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Protocol, TypeAlias

from settings.log_lines import Entry

# About 10 MB of lines: more only wait for a reader that is gone.
_MOST_WAITING = 20_000
_BATCH = 500
# Seconds that lines wait for others. A thread that wakes for each line takes the interpreter from the
# event loop in the middle of a request: with it the first token took 1.2 times as long.
_LINGER = 0.1


class Target(Protocol):
    """Takes encoded lines; raises `OSError` when it can't."""

    def write(self, lines: bytes, /) -> object:
        """Write *lines*, which end with a line feed, all of them."""
        ...

    def close(self) -> None:
        """Let go of what `write` needs."""
        ...


Encode: TypeAlias = Callable[[Entry], str]


@dataclass(slots=True)
class Output:
    """Where lines go, and in which form. `broken` holds from a failed write to the next good one."""

    name: str
    target: Target
    encode: Encode
    broken: bool = False


class LogWriter:
    """Writes entries to all outputs, in order, from a thread of its own.

    When more than 20,000 entries wait, further ones are dropped and counted; the count is logged.
    """

    def __init__(self, outputs: Sequence[Output]) -> None:
        self._outputs = outputs
        self._waiting: SimpleQueue[Entry | None] = SimpleQueue()
        self._dropped = 0
        self._closing = threading.Event()
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

    def close(self, patience: float = 5.0) -> None:
        """Write what waits, for *patience* seconds at most, and stop. Safe to call again."""
        atexit.unregister(self.close)
        self._closing.set()
        self._waiting.put(None)
        self._thread.join(patience)

    def _run(self) -> None:
        for batch in self._batches():
            if self._dropped:
                # Entries may be dropped between these two; such a count is a hint, not an account.
                count, self._dropped = self._dropped, 0
                batch.append(_notice("Log lines dropped", count=count))
            lines: dict[Encode, bytes] = {}  # two outputs may want the same ones
            for output in self._outputs:
                if output.encode not in lines:
                    lines[output.encode] = _encoded(output.encode, batch)
                self._write(output, lines[output.encode])
        for output in self._outputs:
            output.target.close()

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
            yield batch
            if not more:
                return

    def _write(self, output: Output, lines: bytes) -> None:
        try:
            output.target.write(lines)
            output.broken = False
        except (OSError, ValueError) as exc:  # ValueError: the file object is closed
            if not output.broken:
                output.broken = True
                self.put(_notice("Log output fails", output=output.name, error=str(exc)))


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


def _notice(message: str, **fields: str | int) -> Entry:
    return Entry(datetime.now(UTC), "WARNING", message, __name__, fields)
