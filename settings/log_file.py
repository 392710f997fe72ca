"""A log file that is rotated by size, shared safely by several processes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class RotatingFile:
    """Appends whole lines to *path*; at *max_bytes* the file becomes `.1`, `.1` becomes `.2`, and so on.

    Every write is one `write(2)` in append mode, so lines of several processes don't mix, and the
    file is opened again when somebody else has rotated it. Raises `OSError`.
    """

    def __init__(self, path: Path, *, max_bytes: int, backups: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._backups = backups
        self._fd = self._open()

    def write(self, lines: bytes) -> None:
        """Append *lines*, which end with a line feed. That the file can't be rotated is raised afterwards."""
        if self._moved():
            self._reopen()
        try:
            if (size := os.fstat(self._fd).st_size) and size + len(lines) > self._max_bytes:
                self._rotate()
        finally:
            view = memoryview(lines)
            while view:
                view = view[os.write(self._fd, view) :]

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _rotate(self) -> None:
        with self._locked():
            # Another process may have been faster.
            if not self._moved():
                for number in range(self._backups, 0, -1):
                    older = self._path if number == 1 else self._backup(number - 1)
                    if older.exists():
                        older.replace(self._backup(number))
                self._path.unlink(missing_ok=True)
        self._reopen()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # The directory is the lock: the file itself is what moves.
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    def _moved(self) -> bool:
        try:
            return not os.path.samestat(os.fstat(self._fd), self._path.stat())
        except FileNotFoundError:
            return True

    def _backup(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _open(self) -> int:
        # Again, for somebody may have removed the folder.
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)

    def _reopen(self) -> None:
        stale, self._fd = self._fd, self._open()
        os.close(stale)
