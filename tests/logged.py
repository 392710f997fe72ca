"""What is logged while a block runs, in the form that a test looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from loguru import logger

T = TypeVar("T")


@contextmanager
def logged(form: Callable[[Any], T], level: str = "INFO") -> Iterator[list[T]]:
    """What *form* makes of each of loguru's records of *level* and above, oldest first."""
    lines: list[T] = []
    sink = logger.add(lambda message: lines.append(form(message.record)), level=level)
    try:
        yield lines
    finally:
        logger.remove(sink)


def phrase(record: Any) -> str:
    """Its fixed phrase."""
    return str(record["message"])


def phrase_and_fields(record: Any) -> tuple[str, dict[str, Any]]:
    """Its fixed phrase, and the fields beside it."""
    return record["message"], record["extra"]


def facts(record: Any) -> dict[str, Any]:
    """Its fields, with the phrase as `message` among them."""
    return {"message": record["message"], **record["extra"]}
