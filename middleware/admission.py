"""Ask plug-ins whether a new answer may start, and tell them when it has ended."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from loguru import logger as log

from middleware.base import Plugin, Release, Request
from services.report import Report
from services.turn import Turn

Admission: TypeAlias = Callable[[Request, Turn], Coroutine[Any, Any, Release]]


def admission(plugins: Sequence[Plugin]) -> Admission:
    """Runs the `on_turn` hooks of *plugins* down the list, until one refuses.

    What they return is called back up the list, each once, whatever the others do: when the answer
    has ended, or at once when it was refused after all.
    """
    hooks = [(plugin.name, plugin.on_turn) for plugin in plugins if plugin.on_turn]

    async def admit(request: Request, turn: Turn) -> Release:
        releases: list[tuple[str, Release]] = []

        def release(report: Report | None) -> None:
            while releases:
                name, told = releases.pop()
                try:
                    told(report)
                except Exception:  # the others are told all the same
                    log.exception("Middleware hook failed", plugin=name, hook="on_turn")

        try:
            for name, hook in hooks:
                told = await hook(request, turn)
                if told is not None:
                    releases.append((name, told))
        except BaseException:  # cancelled too: its client has left
            release(None)
            raise
        return release

    return admit
