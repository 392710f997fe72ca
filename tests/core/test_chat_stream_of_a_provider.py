"""From a provider's bytes to the wire and the row: whatever breaks where, one `done`, and a bill that adds up."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from itertools import pairwise

from dialects import anthropic_events, openai_events
from hypothesis import example, given, settings
from hypothesis import strategies as st
from patience import PATIENCE
from upstream import Reply, Upstream

from services.chat import Background, Chat
from services.pricing import Prices
from services.providers import Provider
from services.providers.anthropic import Anthropic
from services.providers.fallback import Fallback
from services.providers.openai import OpenAI
from services.providers.retry import Retrying
from services.providers.transport import Transport
from services.report import Accountant, Report
from services.streaming.chat_stream import ChatStream
from services.streaming.log import Room
from services.tokens import Tokenizer
from services.turn import Turn
from tests.core.conftest import wire

COUNTED = (5, 2)  # what the upstream says at its end
# And at its beginning, if it speaks Anthropic's dialect: it then has a dated name.
BEGUN = {"claude-haiku-4-5-20251001": 1}
SENTENCE = "Server error, please try again later."
BY = {"openai": openai_events, "anthropic": anthropic_events}


@dataclass(frozen=True)
class Attempt:
    """One answer of the upstream: so much of it, in such pieces, with such an end."""

    words: list[str]
    share: float
    cuts: list[int]
    ending: str

    async def __call__(self, reply: Reply) -> None:
        by = "anthropic" if reply.request.target.endswith("/messages") else "openai"
        whole = b"".join(BY[by](*self.words))
        part = whole[: round(len(whole) * self.share)]
        reply.head()
        for start, stop in pairwise(
            sorted({0, len(part), *(c % (len(part) + 1) for c in self.cuts)})
        ):
            reply.send(part[start:stop])
            await asyncio.sleep(0)
        match self.ending:
            case "ends":
                reply.end()
            case "resets":
                reply.reset()
            case "babbles":
                reply.raw(b"not a chunk\r\n")
                reply.drop()


class NoBackground:
    """A turn without history or memory."""

    async def background(self, turn: Turn) -> Background:
        return Background()


ATTEMPTS = st.builds(
    Attempt,
    st.lists(st.text(min_size=1, max_size=5), max_size=5),
    st.just(1.0) | st.floats(0, 1),
    st.lists(st.integers(0, 10_000), max_size=6),
    st.sampled_from(["ends", "resets", "babbles"]),
)


@settings(max_examples=60, deadline=None)
@example(attempts=[Attempt([], 0.5, [], "ends")], both=True, leaves=None)  # counted, and cut
@given(
    attempts=st.lists(ATTEMPTS, min_size=1, max_size=4),
    both=st.booleans(),
    leaves=st.none() | st.integers(0, 12),
)
def test_whatever_breaks_where_the_bill_adds_up(
    attempts: list[Attempt], both: bool, leaves: int | None
) -> None:
    """*leaves* is when the user stops it, in turns of the loop."""
    asyncio.run(_play(attempts, both=both, leaves=leaves))


async def _play(attempts: list[Attempt], *, both: bool, leaves: int | None) -> None:
    async with (
        Upstream() as upstream,
        Transport("openai") as first,
        Transport("anthropic") as other,
    ):
        upstream.plays(*attempts)
        model = "gpt-4o-mini"
        provider: Provider = Retrying(
            OpenAI(first, api_key="k", model=model, base_url=upstream.url), max_retries=1, base=0.0
        )
        if both:
            claude = Anthropic(other, api_key="k", model="claude-haiku-4-5", base_url=upstream.url)
            provider = Fallback([provider, claude])
        ended: list[ChatStream] = []
        report = Report(
            Turn("req", "alice", "hi", resumable=True), Accountant(Tokenizer(), Prices())
        )
        stream = ChatStream(
            "str",
            report,
            default_model=model,
            hooks=(),
            grace=60,
            max_bytes=1 << 20,
            room=Room(1 << 24),
            on_end=ended.append,
        )
        stream.start(Chat(provider, NoBackground(), system_prompt="Be brief.").answer)
        assert stream.task is not None
        if leaves is not None:
            for _ in range(leaves):
                await asyncio.sleep(0)
            stream.stop("stopped")
        await asyncio.wait([stream.task], timeout=PATIENCE)

        assert stream.log.ended
        assert ended == [stream]
        _check(stream, attempts, requests=len(upstream.requests), stopped=leaves is not None)


def _check(stream: ChatStream, attempts: list[Attempt], *, requests: int, stopped: bool) -> None:
    frames = [frame.split("\n") for frame in wire(stream).decode("ascii").split("\n\n")[:-1]]
    told = [(lines[0][7:], json.loads(lines[1].removeprefix("data: "))) for lines in frames]
    names = [name for name, _ in told]
    assert names.count("done") == 1
    assert names[-1] == "done"
    assert names.count("usage") <= 1
    report, (row, *errors) = stream.report, [e.payload for e in stream.report.telemetry()]
    done = told[-1][1]
    assert done["finish_reason"] == row["finish_reason"]
    assert len(errors) == (row["finish_reason"] == "error")
    # The words are the beginning of one attempt's, or all of it.
    text = "".join(fields["text"] for name, fields in told if name == "token")
    said = text.removesuffix(SENTENCE).removesuffix("\n\n") if errors else text
    played = ["".join(attempt.words) for attempt in attempts]
    assert any(words.startswith(said) for words in played)
    if row["finish_reason"] == "stop":
        assert said in played
    # A `Retry` is told before its wait, so a user who stops may have kept the next request back.
    assert row["provider_retry_count"] in (
        (requests - 1,) if not stopped else (requests - 1, requests, 0)
    )
    # Counted by the provider, or by us; priced, and told as it is recorded.
    usage = report.usage
    assert usage is not None
    assert usage.estimated or (usage.tokens_in, usage.tokens_out) == COUNTED
    if row["finish_reason"] == "stop":
        assert usage.model != "gpt-4o-mini" or usage.estimated  # the answer's own, dated
    if usage.estimated:
        assert usage.tokens_out == max(Tokenizer().count(said), BEGUN.get(usage.model, 0))
    assert usage.cost_usd == Prices().cost(
        usage.model, tokens_in=usage.tokens_in, tokens_out=usage.tokens_out
    )
    assert (row["tokens_in"], row["tokens_out"]) == (usage.tokens_in, usage.tokens_out)
    assert row["cost_usd"] == usage.cost_usd
    for name, fields in told:
        if name == "usage":
            assert fields["tokens_in"] == usage.tokens_in
            assert fields["tokens_out"] == usage.tokens_out
            assert fields.get("estimated", False) == usage.estimated
    assert report.events == len(frames)
