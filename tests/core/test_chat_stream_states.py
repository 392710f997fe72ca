"""Whatever a provider, hooks, readers and stops do to a stream, in whatever order, it ends once."""

from __future__ import annotations

import asyncio
import json
import re

from endings import PROMPT
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.errors import ProviderRateLimited, ProviderTimeout
from services.events import Asked, Connected, Finish, Retry, TextDelta, Usage
from services.pricing import Prices
from services.report import Accountant, Report
from services.streaming.chat_stream import ChatStream
from services.streaming.log import Room
from services.tokens import Tokenizer
from services.turn import Turn
from tests.core.conftest import wire

EVENTS = st.one_of(
    st.builds(TextDelta, st.text(max_size=8)),
    st.builds(Usage, st.integers(0, 9_999), st.integers(0, 9_999), st.just("gpt-4o-mini")),
    st.builds(Finish, st.sampled_from(["stop", "length", "content_filter"])),
    st.just(Asked(PROMPT)),
    st.just(Connected("openai", "gpt-4o-mini", 0.1)),
    st.just(Retry("openai", 1, 0.1, "SERVER_ERROR")),
    st.none(),
)
FAILURES = st.sampled_from(
    [
        ProviderTimeout("openai", "slow", phase="idle"),
        ProviderRateLimited("openai", "busy", phase="headers", status=429),
        RuntimeError("bug"),
        None,  # ends, with or without a Finish
    ]
)


class Quirks:
    """A hook whose behaviour changes while the answer runs."""

    def __init__(self) -> None:
        self.mood = "keep"
        self.has_lied = False
        self._held: list[TextDelta] = []

    def __call__(self, turn, event):
        match self.mood, event:
            case "drop", TextDelta():
                return []
            case "double", _:
                return [event, event]
            case "hold", TextDelta():
                self._held.append(event)
                return []
            case "hold", Usage() | Finish():
                released, self._held = self._held, []
                return [event, *released]
            case "raise", _:
                raise LookupError("broken hook")
            case "lie", _:
                self.has_lied = True
                return [Finish("stop"), Usage(1, 1, "gpt-4o-mini"), event]
            case "garble", _:
                return [TextDelta(7), Finish(object()), "nonsense"]
            case _:
                return [event]


class Reader:
    """Reads whatever is new whenever it is told."""

    def __init__(self, stream: ChatStream) -> None:
        self._log = stream.log
        self._position = 0
        self.body = b""
        self._attachment = stream.attach(self)
        self._attachment.__enter__()
        self.wake()

    def wake(self) -> None:
        while self._position < len(self._log):
            data, self._position = self._log.read(self._position, limit=64)
            self.body += data

    def leave(self) -> None:
        self._attachment.__exit__(None, None, None)


class AnyStream(RuleBasedStateMachine):
    """One stream at the mercy of everybody."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.ended: list[ChatStream] = []
        self.readers: list[Reader] = []
        self.quirks = Quirks()
        self.steps: asyncio.Queue = asyncio.Queue()
        self.provider_is_open = False

    @initialize(resumable=st.booleans(), hooked=st.booleans(), max_bytes=st.integers(200, 2000))
    def open(self, resumable, hooked, max_bytes):
        turn = Turn("req_1", "alice", "Hello, how are you?", resumable=resumable)
        self.stream = ChatStream(
            "str_1",
            Report(turn, Accountant(Tokenizer(), Prices())),
            default_model="gpt-4o-mini",
            hooks=[self.quirks] if hooked else [],
            grace=30.0 if resumable else 0.0,
            max_bytes=max_bytes,
            room=Room(100_000),
            on_end=self.ended.append,
        )
        self.witness = self.do(Reader, self.stream)

    async def answer(self, turn):
        self.provider_is_open = True
        try:
            while (step := await self.steps.get()) is not None:
                if isinstance(step, Exception):
                    raise step
                yield step
        finally:
            self.provider_is_open = False

    def do(self, action, *arguments):
        """Run *action* in the loop, and what follows from it until nothing moves."""

        async def act():
            result = action(*arguments)
            for _ in range(10):
                await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(act())

    @rule()
    def start(self):
        self.do(self.stream.start, self.answer)

    @rule(batch=st.lists(EVENTS, max_size=4))
    def tell(self, batch):
        self.do(self.steps.put_nowait, batch)

    @rule(failure=FAILURES)
    def fail(self, failure):
        self.do(self.steps.put_nowait, failure)

    @rule(batch=st.lists(EVENTS, max_size=2), why=st.sampled_from(["stopped", "drained"]))
    def stop_while_told(self, batch, why):
        def both():
            self.steps.put_nowait(batch)
            self.stream.stop(why)

        self.do(both)

    @rule(mood=st.sampled_from(["keep", "drop", "double", "hold", "raise", "lie", "garble"]))
    def change_mood(self, mood):
        self.quirks.mood = mood

    @rule()
    def come(self):
        if self.stream.resumable or not self.readers:
            self.readers.append(self.do(Reader, self.stream))

    @precondition(lambda self: self.readers)
    @rule()
    def leave(self):
        self.do(self.readers.pop().leave)

    @precondition(lambda self: self.witness is not None)
    @rule()
    def last_witness_leaves(self):
        if not self.stream.resumable:  # its body is all there is
            self.check_end()
        self.do(self.witness.leave)
        self.witness = None

    @invariant()
    def nothing_follows_done(self):
        if self.witness is not None and b"event: done" in self.witness.body:
            assert self.stream.log.ended
            assert len(self.ended) == 1
            self.check(self.witness.body)

    def check_end(self):
        """A plain stream's only full record is its first reader, so end it while that one reads."""
        if not self.stream.log.ended:
            self.do(self.stream.stop, "stopped")
        self.check(self.witness.body)

    def check(self, body):
        frames = body.decode("ascii").split("\n\n")[:-1]
        kinds = [frame.partition("\n")[0].removeprefix("event: ") for frame in frames]
        data = [json.loads(re.search("^data: (.*)$", frame, re.MULTILINE)[1]) for frame in frames]
        assert re.fullmatch("(token )*(usage )?done ", "".join(f"{kind} " for kind in kinds))
        report = self.stream.report
        assert report.events == len(frames)
        # What is told is what is billed, and what is recorded.
        for kind, fields in zip(kinds, data, strict=True):
            if kind == "usage" and not self.quirks.has_lied:
                assert fields["tokens_in"] == report.usage.tokens_in
                assert fields["tokens_out"] == report.usage.tokens_out
                assert fields.get("estimated", False) == report.usage.estimated
        assert "".join(
            fields["text"] for kind, fields in zip(kinds, data, strict=True) if kind == "token"
        ).startswith(self.stream.text)
        rows = [row.type for row in report.telemetry()]
        assert rows == ["openai_call"] + ["error"] * (report.finish.reason == "error")
        if self.stream.resumable:
            ids = [int(re.search("^id: ([0-9]+)$", frame, re.MULTILINE)[1]) for frame in frames]
            assert ids == list(range(1, len(frames) + 1))
            assert data[-1]["events"] == len(frames)

    def teardown(self):
        try:
            if hasattr(self, "stream"):
                self.do(self.stream.stop, "drained")
                assert self.stream.log.ended
                assert self.ended == [self.stream]
                if self.stream.resumable:
                    self.check(wire(self.stream))
                elif self.witness is not None:
                    self.check(self.witness.body)
                if self.stream.task is not None:
                    self.steps.put_nowait(None)
                    self.do(lambda: None)
                    assert self.stream.task.done()
                assert not self.provider_is_open
                for reader in self.readers:
                    self.do(reader.leave)
        finally:
            self.loop.close()


TestAnyStream = AnyStream.TestCase
TestAnyStream.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
