"""`MIDDLEWARE_<NAME>_<FIELD>` variables become the options of the plug-in they name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from settings import BadSetting

_PREFIX = "MIDDLEWARE_"


def assign(
    variables: Mapping[str, str], active: Collection[str], known: Collection[str]
) -> dict[str, dict[str, str]]:
    """For each *active* plug-in its part of *variables*, by option in lower case.

    An empty variable counts as unset. Raises `BadSetting` for one that no active plug-in takes.
    """
    assigned: dict[str, dict[str, str]] = {name: {} for name in active}
    for variable, value in variables.items():
        if not value.strip():
            continue
        owner = _owner(variable, active)
        if owner is None:
            raise BadSetting(f"{variable}: {_unowned(variable, known)}")
        assigned[owner][variable.removeprefix(_prefix(owner)).lower()] = value.strip()
    return assigned


def parse(name: str, model: type[BaseModel], given: Mapping[str, str]) -> BaseModel:
    """The options of plug-in *name*, of type *model*; lists are comma-separated. Raises `BadSetting`."""
    fields = model.model_fields
    values: dict[str, Any] = {}
    for option, text in given.items():
        if option not in fields:
            has = f"it has {', '.join(sorted(fields))}" if fields else "it has none"
            raise BadSetting(f"{_variable(name, option)}: {name} has no such option; {has}")
        values[option] = _items(text) if _is_list(fields[option].annotation) else text
    try:
        return model.model_validate(values)
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False)[0]
        variable = _variable(name, str(error["loc"][0])) if error["loc"] else _prefix(name)[:-1]
        raise BadSetting(f"{variable}: {' '.join(error['msg'].split())}") from None


def _owner(variable: str, names: Collection[str]) -> str | None:
    # The longest: with plug-ins `access` and `access_log`, MIDDLEWARE_ACCESS_LOG_X is the latter's.
    owners = [name for name in names if variable.startswith(_prefix(name))]
    return max(owners, key=len, default=None)


def _unowned(variable: str, known: Collection[str]) -> str:
    if (owner := _owner(variable, known)) is not None:
        return f"{owner} is not active; add it to MIDDLEWARE or remove this"
    return f"no plug-in takes it; there are {', '.join(sorted(known))}"


def _variable(name: str, option: str) -> str:
    return f"{_prefix(name)}{option.upper()}"


def _prefix(name: str) -> str:
    return f"{_PREFIX}{name.replace('-', '_').upper()}_"


def _is_list(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    if origin is Annotated:
        return _is_list(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return all(_is_list(each) for each in get_args(annotation) if each is not NoneType)
    return origin in (tuple, list, set, frozenset, Sequence)


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
