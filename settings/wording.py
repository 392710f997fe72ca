"""What a setting may hold, in words: for the line that refuses a value and for the reference."""

from __future__ import annotations

from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import SecretStr
from pydantic.fields import FieldInfo


@dataclass(frozen=True, slots=True)
class Allowed:
    """Says in an annotation what a value must be, where its type alone can't."""

    phrase: str


def allowed(field: FieldInfo) -> str:
    """What *field* may hold, fit to follow "must be"."""
    return _phrase(field.annotation, field.metadata)


def _phrase(annotation: Any, metadata: list[Any]) -> str:
    annotation, metadata = _unwrap(annotation, list(metadata))
    for mark in metadata:
        if isinstance(mark, Allowed):
            return mark.phrase
    if get_origin(annotation) is tuple:
        return "a comma-separated list of " + _phrase(get_args(annotation)[0], [])
    if get_origin(annotation) is Literal:
        return _choice(get_args(annotation))
    if annotation is bool:
        return "true or false"
    if annotation in (int, float):
        return ("a whole number" if annotation is int else "a number") + _bounds(metadata)
    if annotation in (str, SecretStr):
        return _text(metadata)
    raise TypeError(f"no words for {annotation!r}")


def _unwrap(annotation: Any, metadata: list[Any]) -> tuple[Any, list[Any]]:
    """Take `Annotated` and `| None` off."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _unwrap(inner, metadata + [mark for each in more for mark in _marks(each)])
    if get_origin(annotation) in (Union, UnionType):
        (inner,) = (arg for arg in get_args(annotation) if arg is not NoneType)
        return _unwrap(inner, metadata)
    return annotation, metadata


def _marks(mark: Any) -> list[Any]:
    """What *mark* says: pydantic takes its own `Field` apart on a field, and leaves it whole inside of a union."""
    return mark.metadata if isinstance(mark, FieldInfo) else [mark]


def _bounds(metadata: list[Any]) -> str:
    low = next((mark.ge for mark in metadata if isinstance(mark, Ge)), None)
    high = next((mark.le for mark in metadata if isinstance(mark, Le)), None)
    above = next((mark.gt for mark in metadata if isinstance(mark, Gt)), None)
    if above is not None:
        return f" above {above}"
    return f" from {low} to {high}"


def _text(metadata: list[Any]) -> str:
    least = next((mark.min_length for mark in metadata if isinstance(mark, MinLen)), 0)
    return f"at least {least} characters" if least > 1 else "text"


def _choice(words: tuple[str, ...]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}"
