"""Streams beyond their process: the seams to the archive, which outlives it, and to other processes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, Protocol, TypeAlias

from services.streaming.chat_stream import ChatStream
from services.streaming.log import Readable

How: TypeAlias = Literal["resumed", "replayed"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A user's idempotency key, and a digest of the request that it stands for."""

    user_id: str
    key: str
    digest: bytes

    @property
    def name(self) -> str:
        """What stands for user and key wherever they are kept; the key itself is never stored."""
        return sha256(f"{self.user_id}\0{self.key}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Holder:
    """The stream that a claim already has, and the digest it was claimed with."""

    stream_id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class StoredStream:
    """A resumable stream as the archive has it; without frames if its end was never stored."""

    frames: tuple[bytes, ...] | None


class Archive(Protocol):
    """Remembers resumable streams across restarts."""

    def opened(self, stream: ChatStream, claim: Claim | None) -> None:
        """Remember that *stream* runs. Never blocks or raises."""
        ...

    def ended(self, stream: ChatStream) -> None:
        """Remember *stream* with its frames. Never blocks or raises."""
        ...

    def holder(self, claim: Claim) -> Holder | None:
        """The stream that *claim* had, from memory."""
        ...

    async def of(self, user_id: str, session_id: str | None) -> set[str]:
        """The ids of a user's streams, or of a session's. Raises `StreamsUnavailable`."""
        ...

    def forget(self, stream_ids: Collection[str], user_id: str) -> None:
        """Erase streams of a user as soon as possible, and their claims. Never blocks or raises."""
        ...

    async def erase(self, stream_ids: Collection[str], user_id: str) -> None:
        """Do as `forget` does, and wait until it is done. Raises `StreamsUnavailable`."""
        ...

    async def find(self, stream_id: str, user_id: str) -> StoredStream | None:
        """The stream of that id, if it is *user_id*'s. Raises `StreamsUnavailable`."""
        ...


class Inbox(Protocol):
    """The owner of the streams of this process, as other processes reach it."""

    def stop_for_others(self, stream_id: str) -> None:
        """Somebody asked another process to stop this stream."""
        ...

    def read_by_others(self, stream_id: str, how: How | None) -> None:
        """Somebody reads this stream through another process; *how* says so the first time."""
        ...

    def erase_for_others(self, stream_id: str) -> None:
        """Another process erased this stream, of which this one may still have what was said."""
        ...


class SharedStreams(Protocol):
    """Lets other processes read the streams of this one, and this one theirs."""

    def serve(self, inbox: Inbox) -> None:
        """Pass on to *inbox* what others ask of this process."""
        ...

    async def register(self, stream_id: str, user_id: str, claim: Claim | None) -> Holder | None:
        """Announce a stream and take its claim, or say who has that. Raises `StreamsUnavailable`."""
        ...

    def withdraw(self, stream_id: str, claim: Claim | None) -> None:
        """Take back what was registered: the stream was refused. Never blocks or raises."""
        ...

    def publish(self, stream: ChatStream, claim: Claim | None, *, announced: bool) -> None:
        """Copy what *stream* says from now on; unless *announced*, tell the others that it exists.

        Never blocks or raises.
        """
        ...

    def forget(self, stream: ChatStream) -> None:
        """Copy *stream*, which has ended, no more, but first what the others miss. Never blocks or raises."""
        ...

    async def erase(self, stream_ids: Collection[str]) -> set[str]:
        """Erase those of the streams that do not run elsewhere, and their claims; the ids of those.

        Streams of this process are ended and forgotten. Raises `StreamsUnavailable`.
        """
        ...

    async def holder(self, claim: Claim) -> Holder | None:
        """The stream that *claim* has. Raises `StreamsUnavailable`."""
        ...

    async def find(self, stream_id: str, user_id: str, after: int, how: How) -> Readable | None:
        """The stream of that id, if it is *user_id*'s, with *after* events or all it has.

        Raises `StreamsUnavailable`.
        """
        ...

    async def stop(self, stream_id: str, user_id: str) -> bool:
        """Ask its process to stop a stream; whether there is one. Raises `StreamsUnavailable`."""
        ...
