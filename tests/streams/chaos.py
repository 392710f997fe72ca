"""Chaos: clients that are cut, come back anywhere, repeat themselves and stop, while a process dies.

Every choice comes from one seed. What must hold whatever it chose is checked in `Outcome`.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from dialects import DONE, chunk, role_chunk, usage_chunk
from upstream import Reply

from sse_client import Answer, Client, EndOfStream, ServerEvent

WORDS = 60
PAUSE = 0.02  # seconds between two words of an answer
PATIENCE = 180.0  # seconds one client tries before it has hung; a slow machine needs 60

# The model's deadlines are tested elsewhere, and a busy machine must not play them here.
UNHURRIED = {
    "OPENAI_CONNECT_TIMEOUT_MS": "120000",
    "OPENAI_FIRST_TOKEN_TIMEOUT_MS": "120000",
    "OPENAI_IDLE_TIMEOUT_MS": "120000",
    "OPENAI_MAX_RETRIES": "0",
}


def question(number: int) -> str:
    """What client *number* asks."""
    return f"question-{number}"


def words_of(asked: str) -> list[str]:
    """The answer to a question: every word is only there once."""
    return [f"{asked}/{number} " for number in range(WORDS)]


class Model:
    """An upstream's script that answers each question, slowly, and counts how often it was asked."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    async def __call__(self, reply: Reply) -> None:
        asked = reply.request.json["messages"][-1]["content"]
        self.calls[asked] += 1
        reply.head()
        reply.send(role_chunk())
        for word in words_of(asked):
            reply.send(chunk(word))
            await asyncio.sleep(PAUSE)
        reply.send(chunk(reason="stop"))
        reply.send(usage_chunk(5, WORDS))
        reply.send(DONE)
        reply.end()


@dataclass
class Outcome:
    """What one client had in the end."""

    number: int
    events: list[ServerEvent] = field(default_factory=list)
    stopped: bool = False
    attempts: int = 0
    failure: str | None = None

    @property
    def done(self) -> ServerEvent:
        return self.events[-1]

    @property
    def lost(self) -> bool:
        return bool(self.events) and self.done.data.get("code") == "STREAM_LOST"

    def problems(self) -> list[str]:
        """What is wrong with it: nothing, or the build is."""
        if self.failure is not None:
            return [f"client {self.number}: {self.failure}"]
        found = []
        ids = [event.id for event in self.events]
        if ids != list(range(1, len(ids) + 1)):
            found.append(f"ids {ids}")
        if [event.name for event in self.events].count("done") != 1 or self.done.name != "done":
            found.append("not exactly one done, at the end")
        elif self.done.data["events"] != len(ids):
            found.append(f"done says {self.done.data['events']} events, there are {len(ids)}")
        said = [event.data["text"] for event in self.events if event.name == "token"]
        expected = words_of(question(self.number))
        if said != expected[: len(said)]:
            found.append(f"words lost or doubled: {said}")
        reason = self.done.data.get("finish_reason")
        if reason == "stop" and said != expected:
            found.append("ended as complete, and is not")
        if reason == "aborted" and not self.stopped:
            found.append("aborted, and nobody stopped it")
        if reason == "error" and not self.lost:
            found.append(f"failed: {self.done.data}")
        return [f"client {self.number}: {problem}" for problem in found]


class ChaosClient:
    """A client with a bad network, which never gives up and never asks with a second key."""

    def __init__(self, number: int, seed: int, clients: Sequence[Client]) -> None:
        self.outcome = Outcome(number)
        self._random = random.Random(f"{seed}/{number}")
        self._clients = clients
        self._stream_id: str | None = None

    async def run(self) -> Outcome:
        """Read to `done`, or to what should never happen."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._try_until_done()
        except TimeoutError:
            self.outcome.failure = f"hangs after {len(self.outcome.events)} events"
        except AssertionError as exc:
            self.outcome.failure = str(exc)
        return self.outcome

    async def _try_until_done(self) -> None:
        await asyncio.sleep(self._random.random())
        while not self._has_done():
            self.outcome.attempts += 1
            try:
                await self._attempt()
            except (EndOfStream, OSError):
                # Cut, or the process is gone: another one is next.
                await asyncio.sleep(0.02)

    def _has_done(self) -> bool:
        events = self.outcome.events
        return bool(events) and events[-1].name == "done"

    async def _attempt(self) -> None:
        client = self._random.choice(self._clients)
        if self._stream_id is not None and self._random.random() < 0.15:
            # Asked for, it may happen whatever the answer is: a process may die between the two.
            self.outcome.stopped = True
            await client.stop(self._stream_id)
        after = len(self.outcome.events)
        if self._stream_id is not None and self._random.random() < 0.5:
            opened = client.resume(self._stream_id, after)
        else:
            number = self.outcome.number
            opened = client.ask(question(number), key=f"key-{number}", after=after or None)
        async with opened as answer:
            if answer.status == 503:
                await asyncio.sleep(0.2)
                return
            assert answer.status == 200, f"{answer.status} after {after} events: {answer.body!r}"
            self._stream_id = answer.headers.get("x-stream-id", self._stream_id)
            await self._read(answer)

    async def _read(self, answer: Answer) -> None:
        """Read some bytes or all of it; what arrived as whole events is what the client has."""
        try:
            if self._random.random() < 0.3:
                await answer.read_to_end()
            else:
                await answer.read_bytes(self._random.randrange(1, 1200))
        except AssertionError:
            if answer.complete:
                raise  # not cut: the bytes themselves are wrong
        finally:
            self.outcome.events += answer.events


def miscounted(outcomes: Sequence[Outcome], model: Model) -> list[str]:
    """Keys that did not cost exactly one call.

    Only a process that dies between a claim and its question may leave a key without one, and then
    its client got the end of a lost stream and nothing else.
    """
    found = []
    for outcome in outcomes:
        calls = model.calls[question(outcome.number)]
        never_asked = calls == 0 and outcome.lost and len(outcome.events) == 1
        if calls != 1 and not never_asked:
            found.append(f"client {outcome.number}: {calls} provider calls")
    return found


async def unleash(seed: int, ports: Sequence[int], count: int, token: str) -> list[Outcome]:
    """Let *count* clients loose on the processes at *ports*; all outcomes, by number."""
    clients = [Client(port, token) for port in ports]
    runs = [ChaosClient(number, seed, clients).run() for number in range(count)]
    return await asyncio.gather(*runs)
