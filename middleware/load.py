"""Find the plug-ins that `MIDDLEWARE` names, and make them with their options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel

from middleware.base import Middleware, NoOptions, Plugin
from middleware.options import assign, parse
from settings import BadSetting

GROUP = "ai_chat_api.middleware"

BUILT_IN = tuple(
    EntryPoint(name, target, GROUP)
    for name, target in (
        ("request_id", "middleware.request_id:RequestId"),
        ("access_log", "middleware.access_log:AccessLog"),
        ("cors", "middleware.cors:Cors"),
        ("auth", "middleware.auth:Auth"),
        ("throttle", "middleware.throttle:Throttle"),
        ("limits", "middleware.limits:Limits"),
        ("fault_injection", "middleware.fault_injection:FaultInjection"),
    )
)

# What each hook is called with; `lifespan` and the names are all the contract there is.
_PARAMETERS = {
    "lifespan": (),
    "on_request": ("request",),
    "on_response": ("request", "response"),
    "on_turn": ("request", "turn"),
    "on_event": ("turn", "event"),
}


def load(
    names: Sequence[str],
    env_options: Mapping[str, str],
    offers: Iterable[EntryPoint] | None = None,
) -> list[Plugin]:
    """The plug-ins *names*, in that order, with their options from *env_options*.

    *offers* are the plug-ins there are: by default the built-in ones and those that installed
    packages offer as entry points; only the named ones are imported. Raises `BadSetting` for whatever
    can be wrong about them.
    """
    if offers is None:
        offers = (*BUILT_IN, *entry_points(group=GROUP))
    offered: dict[str, list[EntryPoint]] = {}
    for offer in offers:
        offered.setdefault(offer.name, []).append(offer)
    for position, name in enumerate(names):
        if name in names[:position]:
            raise BadSetting(f"MIDDLEWARE: {name} is listed twice")
    plugs = {name: _import(name, offered) for name in names}
    options = assign(env_options, active=names, known=offered)
    return [_make(name, plug, options[name]) for name, plug in plugs.items()]


def _import(name: str, offered: Mapping[str, list[EntryPoint]]) -> Any:
    match offered.get(name, []):
        case []:
            there_are = ", ".join(sorted(offered))
            raise BadSetting(f"MIDDLEWARE: no plug-in is called {name}; there are {there_are}")
        case [offer]:
            try:
                return offer.load()
            except (ImportError, AttributeError) as exc:
                raise BadSetting(f"MIDDLEWARE: {name} can't be imported: {exc}") from exc
        case several:
            targets = ", ".join(offer.value for offer in several)
            raise BadSetting(f"MIDDLEWARE: {name} is offered more than once: {targets}")


def _make(name: str, plug: Any, given: Mapping[str, str]) -> Plugin:
    if not callable(plug):
        raise BadSetting(f"MIDDLEWARE: {name} is not a class")
    model = getattr(plug, "Options", NoOptions)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise BadSetting(f"MIDDLEWARE: {name} has Options that are not a pydantic model")
    options = parse(name, model, given)
    return plugin(name, plug() if model is NoOptions else plug(options))


def plugin(name: str, instance: object) -> Plugin:
    """*instance* as the plug-in called *name*. Raises `BadSetting` unless its hooks have their shape."""
    hooks = {hook: bound for hook in _PARAMETERS if (bound := _hook(instance, hook)) is not None}
    if not hooks:
        raise BadSetting(f"MIDDLEWARE: {name} has none of the hooks {', '.join(_PARAMETERS)}")
    for hook, bound in hooks.items():
        if problem := _misshapen(hook, bound):
            raise BadSetting(f"MIDDLEWARE: {name}.{hook} {problem}")
    return Plugin(name, **hooks)


def _hook(instance: object, hook: str) -> Callable[..., Any] | None:
    """The *hook* of *instance*; None if it has none, or has inherited the one that does nothing."""
    bound: Callable[..., Any] | None = getattr(instance, hook, None)
    inherited = getattr(bound, "__func__", None) is getattr(Middleware, hook)
    return None if inherited else bound


def _misshapen(hook: str, bound: Callable[..., Any]) -> str | None:
    """What is wrong with a hook, to be said after its name."""
    if not callable(bound):
        return "is not a method"
    parameters = _PARAMETERS[hook]
    try:
        inspect.signature(bound).bind(*parameters)
    except TypeError:
        return f"must take ({', '.join(('self', *parameters))})"
    is_async = inspect.iscoroutinefunction(bound)
    if hook in ("on_request", "on_response", "on_turn"):
        return None if is_async else "must be an async def, without yield"
    if is_async or inspect.isasyncgenfunction(bound):
        if hook == "lifespan":
            return "must be decorated with @asynccontextmanager"
        return "must be a plain def: it runs for every token"
    return None
