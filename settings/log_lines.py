"""A log record as one line of JSON, or as text for a person."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeAlias

from settings.redaction import Redactor

Scalar: TypeAlias = str | int | float | bool | None

_FIXED = ("time", "level", "message", "logger", "exception")
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != 10}
_ESCAPES |= {0x2028: "\\u2028", 0x2029: "\\u2029"}


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one line; `exception` is the traceback as text, or empty."""

    time: datetime
    level: str
    message: str
    logger: str
    fields: Mapping[str, Any]
    exception: str = ""


def json_line(entry: Entry, redact: Redactor) -> str:
    """One JSON object in ASCII, so that nothing in it can end the line or forge another."""
    line: dict[str, Scalar] = {
        "time": _stamp(entry.time, "milliseconds"),
        "level": entry.level,
        "message": redact(entry.message),
    }
    for name, value in entry.fields.items():
        line[f"{name}_" if name in _FIXED else name] = _scalar(value, redact)
    line["logger"] = entry.logger
    if entry.exception:
        line["exception"] = redact(entry.exception)
    return json.dumps(line)


def text_line(entry: Entry, redact: Redactor) -> str:
    """A line to read; a traceback follows indented, so that it can't pass for another line."""
    words = [entry.time.strftime("%H:%M:%S"), f"{entry.level:<7}", _one_line(redact(entry.message))]
    words += [
        f"{name}={_word(_scalar(value, redact))}"
        for name, value in entry.fields.items()
        if value is not None
    ]
    lines = [" ".join(words)]
    if entry.exception:
        lines += [f"    {line}".translate(_ESCAPES) for line in redact(entry.exception).split("\n")]
    return "\n".join(lines).rstrip()


def _stamp(time: datetime, precision: str) -> str:
    return time.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _scalar(value: Any, redact: Redactor) -> Scalar:
    match value:
        case None | bool() | int():
            return value
        case Decimal() | float() if math.isfinite(value):
            return float(value)
        case _:
            return redact(str(value))


def _word(value: Scalar) -> str:
    match value:
        case str():
            text = _one_line(value)
            return json.dumps(text, ensure_ascii=False) if " " in text else text
        case True | False | None:
            return json.dumps(value)
        case _:
            return repr(value)  # what JSON has for a number, too


def _one_line(text: str) -> str:
    if text.isprintable():  # nearly always, and some ten times as fast as looking at each character
        return text
    return text.translate(_ESCAPES).replace("\n", "\\n")
