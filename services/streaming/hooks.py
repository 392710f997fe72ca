"""What the `on_event` hooks of plug-ins make of an answer's events, and what they may not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from services.events import Event, Finish
from services.turn import Turn

EventHook: TypeAlias = Callable[[Turn, Event], Iterable[Event]]


class MisplacedEvent(Exception):
    """A hook put a `Usage` or a `Finish` between the words; both have their place at the end."""


def through(hooks: Sequence[EventHook], turn: Turn, event: Event) -> list[Event]:
    """The events that *hooks*, each in its turn, put in the place of *event*. Raises what a hook raises."""
    events = [event]
    try:
        for hook in hooks:
            events = [out for each in events for out in hook(turn, each)]
    except asyncio.CancelledError as exc:
        # Of a future that the hook looked at: nobody has stopped this answer.
        raise RuntimeError("a hook raised CancelledError") from exc
    return events


def finish_of(tail: Sequence[Event], finish: Finish) -> Finish:
    """What hooks have made of *finish* in *tail*; none makes an answer that was cut look complete."""
    made = next((event for event in tail if isinstance(event, Finish)), finish)
    was_cut = finish.reason in ("error", "aborted")
    return finish if was_cut and made.reason != finish.reason else made
