"""The register: resumable streams of this process, found by id or by claim until they are forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from services.streaming.chat_stream import ChatStream
from services.streaming.log import Room
from services.streaming.store import Claim


class Register:
    """Forgets an ended stream *retention* seconds after its end, or as soon as others need its room.

    All logs, of streams that are not registered too, may hold *max_bytes* together. *on_forget* is
    told of each stream that is forgotten.
    """

    def __init__(
        self, *, retention: float, max_bytes: int, on_forget: Callable[[ChatStream], None]
    ) -> None:
        self.room = Room(max_bytes, self._make_room)
        self._retention = retention
        self._on_forget = on_forget
        self._streams: dict[str, ChatStream] = {}  # by id
        self._claims: dict[str, tuple[bytes, ChatStream]] = {}  # by name, with the digest
        self._claim_of: dict[ChatStream, Claim] = {}
        self._ended: dict[ChatStream, asyncio.TimerHandle] = {}  # oldest end first

    def add(self, stream: ChatStream, claim: Claim | None) -> None:
        """Register *stream*, which runs."""
        self._streams[stream.id] = stream
        if claim is not None:
            self._claims[claim.name] = (claim.digest, stream)
            self._claim_of[stream] = claim

    def find(self, stream_id: str) -> ChatStream | None:
        """The stream of that id."""
        return self._streams.get(stream_id)

    def claimed(self, name: str) -> tuple[bytes, ChatStream] | None:
        """The digest of the claim of that *name*, and the stream that holds it."""
        return self._claims.get(name)

    def ended_of(self, user_id: str, session_id: str | None) -> Sequence[ChatStream]:
        """A user's streams that have ended, of one session or of all."""
        return [
            each
            for each in self._ended
            if each.turn.user_id == user_id and session_id in (None, each.turn.session_id)
        ]

    def ended(self, stream: ChatStream) -> None:
        """Begin to forget *stream*."""
        loop = asyncio.get_running_loop()
        self._ended[stream] = loop.call_later(self._retention, self.forget, stream)
        self._make_room()

    def forget(self, stream: ChatStream) -> bool:
        """Forget *stream* now, if it has ended and is not forgotten yet; whether that was so."""
        if (timer := self._ended.pop(stream, None)) is None:
            return False
        timer.cancel()
        stream.log.release()
        del self._streams[stream.id]
        if claim := self._claim_of.pop(stream, None):
            del self._claims[claim.name]
        self._on_forget(stream)
        return True

    def _make_room(self) -> None:
        while self.room.full and self._ended:
            self.forget(next(iter(self._ended)))
