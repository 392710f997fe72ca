"""Logging: loguru and the standard library go to standard output and a file, as JSON or as text."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from loguru import logger as log

from settings.log_file import RotatingFile
from settings.log_lines import Entry, json_line, text_line
from settings.log_writer import LogWriter, Output, Target
from settings.redaction import Redactor
from settings.sections import Logging

if TYPE_CHECKING:
    from loguru import Message, Record


class HasDescriptor(Protocol):
    """An open file, as far as logging needs one."""

    def fileno(self) -> int:
        """Return the file descriptor."""
        ...


class LogHandle:
    """The running log output; `close` writes what waits and restores the standard library's loggers."""

    def __init__(
        self, sink: int, writer: LogWriter, root: tuple[list[logging.Handler], int]
    ) -> None:
        self._sink: int | None = sink
        self._writer = writer
        self._root = root

    def close(self) -> None:
        """Flush and stop. Safe to call again."""
        if self._sink is None:
            return
        log.remove(self._sink)
        self._sink = None
        self._writer.close()
        logging.root.handlers, level = self._root
        logging.root.setLevel(level)

    def __enter__(self) -> LogHandle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


def configure_logging(
    section: Logging,
    production: bool,
    *,
    secrets: Iterable[str] = (),
    stdout: HasDescriptor | None = None,
) -> LogHandle:
    """Send every log line of the process to *stdout* (default: the process's own) and to `LOG_FILE`.

    Standard output gets JSON in production and text otherwise, the file JSON always. *secrets* are
    replaced wherever they turn up. A file that can't be opened is a warning, not an error, and a process
    may have been given no standard output at all.
    """
    redact = Redactor(secrets)
    as_json = partial(json_line, redact=redact)
    as_text = partial(text_line, redact=redact)
    outputs: list[Output] = []
    if (console := stdout or sys.stdout) is not None:
        outputs.append(Output("stdout", _Descriptor(console), as_json if production else as_text))
    problem: OSError | None = None
    if section.file is not None:
        try:
            outputs.append(Output(section.file, _open_file(section, section.file), as_json))
        except OSError as exc:
            problem = exc
    writer = LogWriter(outputs)
    log.remove()
    # An empty format leaves the traceback alone in the sink's message.
    sink = log.add(
        partial(_capture, writer),
        format="",
        level=section.level,
        backtrace=False,
        # With it a traceback shows the values of local variables: tokens, messages.
        diagnose=False,
    )
    handle = LogHandle(sink, writer, (logging.root.handlers, logging.root.level))
    _redirect_standard_library(section.level)
    if problem is not None:
        log.warning(
            "Log file can't be opened, logging to standard output only",
            file=section.file,
            error=problem.strerror,
        )
    return handle


def _open_file(section: Logging, path: str) -> Target:
    return RotatingFile(Path(path), max_bytes=section.file_max_bytes, backups=section.file_backups)


def _capture(writer: LogWriter, message: Message) -> None:
    record = message.record
    writer.put(
        Entry(
            record["time"],
            record["level"].name,
            record["message"],
            record["name"] or "",
            record["extra"],
            str(message).strip(),
        )
    )


def _redirect_standard_library(level: str) -> None:
    # DEBUG lines of libraries show SQL with its values, hence users' messages: never below INFO.
    logging.root.setLevel(max(logging.INFO, logging.getLevelName(level)))
    logging.root.handlers = [_ToLoguru()]
    for name in logging.root.manager.loggerDict:
        if name.partition(".")[0] in ("sanic", "aiohttp", "asyncio"):
            library = logging.getLogger(name)
            library.handlers = []
            library.propagate = True


class _ToLoguru(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            level: str | int = log.level(record.levelname).name
        except ValueError:
            level = record.levelno
        try:
            named = log.patch(partial(_name, name=record.name))
            named.opt(exception=record.exc_info).log(level, record.getMessage())
        except Exception:
            # The standard library's way with a format that doesn't fit its arguments.
            self.handleError(record)


def _name(record: Record, name: str) -> None:
    record["name"] = name


class _Descriptor:
    """Standard output, unbuffered; the process owns it, so it is left open."""

    def __init__(self, file: HasDescriptor) -> None:
        self._file = file

    def write(self, lines: bytes) -> None:
        view = memoryview(lines)
        while view:
            view = view[os.write(self._file.fileno(), view) :]

    def close(self) -> None:
        """Leave it open."""
