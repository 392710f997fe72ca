"""What holds of every provider, adapters and wrappers alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from itertools import pairwise

import pytest
from answers import batches_of, collect, failed_events, settled, text_of, until
from dialects import anthropic_delta, anthropic_events, chunk, openai_events
from hypothesis import given, settings
from hypothesis import strategies as st
from replies import hangs, repeats
from upstream import Reply, Script, Upstream, sends

from services.errors import ProviderError, ProviderTimeout
from services.events import Attempt, Connected, Event, Finish, Retry, TextDelta, Usage
from services.providers import Provider
from services.providers.anthropic import Anthropic
from services.providers.fallback import Fallback
from services.providers.faults import FaultInjection
from services.providers.openai import OpenAI
from services.providers.retry import Retrying
from services.providers.scripted import Stub
from services.providers.transport import Transport
from services.turn import Message, Prompt

pytestmark = pytest.mark.usefixtures("reading")


def _openai(transport: Transport, url: str) -> Provider:
    return OpenAI(transport, api_key="k", model="m", base_url=url)


def _anthropic(transport: Transport, url: str) -> Provider:
    return Anthropic(transport, api_key="k", model="m", base_url=url)


def _stub(transport: Transport, url: str) -> Provider:
    return Stub(story_duration=2.0)  # longer than the deadline below


def _played(transport: Transport, url: str) -> Provider:
    return FaultInjection(_openai(transport, url))


def _retrying(transport: Transport, url: str) -> Provider:
    return Retrying(_openai(transport, url), max_retries=1, base=0.001)


def _fallback(transport: Transport, url: str) -> Provider:
    return Fallback([_retrying(transport, "http://127.0.0.1:9/v1"), _retrying(transport, url)])


Make = Callable[[Transport, str], Provider]
EVERY: list[Make] = [_openai, _anthropic, _stub, _played, _retrying, _fallback]


@pytest.fixture(params=EVERY, ids=lambda make: make.__name__.strip("_"))
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


@pytest.fixture
def says(make: Make) -> Callable[..., list[bytes]]:
    """The events with which this provider's upstream says something."""
    return anthropic_events if make is _anthropic else openai_events


@pytest.fixture
def provider(make: Make, transport: Transport, upstream: Upstream) -> Provider:
    return make(transport, upstream.url)


STORY = Prompt("", (Message("user", "a long story"),))


async def test_it_ends_with_exactly_one_finish_and_opens_with_connected(
    provider: Provider, upstream: Upstream, says: Callable[..., list[bytes]]
) -> None:
    upstream.plays(sends(says("Hello", " world")))

    batches = await batches_of(provider, STORY)

    events = [event for batch in batches for event in batch]
    assert all(batches)
    assert sum(isinstance(event, Connected) for event in events) == 1
    assert sum(isinstance(event, Usage) and not event.estimated for event in events) == 1
    assert [event for event in events if isinstance(event, Finish)] == [Finish("stop")]
    assert events[-1] == Finish("stop")
    spoken = [isinstance(event, TextDelta) for event in events]
    heard = [type(event) for event in events[: spoken.index(True)]]
    assert [kind for kind in heard if kind not in (Attempt, Retry, Usage)] == [Connected]
    assert all(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize("make", [_openai, _anthropic], indirect=True)
async def test_roles_alternate_also_after_a_turn_without_an_answer(
    provider: Provider, upstream: Upstream, says: Callable[..., list[bytes]]
) -> None:
    """Templates of many models behind OpenAI's dialect refuse two messages of the user in a row."""
    upstream.plays(sends(says("Hello")))
    said = (Message("user", "a"), Message("user", "b"), Message("assistant", "c"))

    await batches_of(provider, Prompt("", (*said, Message("user", "d"), Message("user", "e"))))

    assert upstream.requests[0].json["messages"] == [
        {"role": "user", "content": "a\n\nb"},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d\n\ne"},
    ]


async def test_it_has_a_name(provider: Provider) -> None:
    assert provider.name in ("openai", "stub", "openai,openai")


@pytest.mark.parametrize("seen", [0, 1, 2, 3])
async def test_closing_it_leaves_nothing_open(
    provider: Provider, transport: Transport, upstream: Upstream, make: Make, seen: int
) -> None:
    upstream.plays(repeats(anthropic_delta("x") if make is _anthropic else chunk("x")))
    batches = provider.stream(STORY)
    for _ in range(seen):
        await anext(batches)

    await batches.aclose()

    assert transport.open == 0
    await upstream.connected(0)


async def test_cancelling_it_leaves_nothing_open(
    provider: Provider, transport: Transport, upstream: Upstream, says: Callable[..., list[bytes]]
) -> None:
    upstream.plays(hangs(*says("Hello", " world")[:-3]))
    seen: list[Event] = []
    asking = asyncio.ensure_future(collect(provider, STORY, seen))
    await until(lambda: any(isinstance(event, TextDelta) for event in seen))

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert transport.open == 0
    await upstream.connected(0)


async def test_turns_at_the_same_time_do_not_mix(
    provider: Provider, transport: Transport, upstream: Upstream, make: Make
) -> None:
    async def echo(reply: Reply) -> None:
        question = reply.request.json["messages"][-1]["content"]
        say = anthropic_events if make is _anthropic else openai_events
        await sends(say(*question), pause=0.001)(reply)

    upstream.plays(echo)
    questions = [f"question {n}" for n in range(20)]

    answers = await asyncio.gather(
        *(text_of(provider, Prompt("", (Message("user", question),))) for question in questions)
    )

    for question, answer in zip(questions, answers, strict=True):
        assert question in answer
        assert not any(other in answer for other in questions if other not in question)
    await settled(transport)


async def test_it_keeps_the_deadline(
    provider: Provider, upstream: Upstream, says: Callable[..., list[bytes]]
) -> None:
    upstream.plays(hangs(*says("Hello")[:-3]))
    # Time for the first word over a socket; the stub needs none, and its story is soon told.
    patience = 0.1 if isinstance(provider, Stub) else 1.0
    deadline = asyncio.get_running_loop().time() + patience

    events, error = await failed_events(provider, Prompt("", STORY.messages, deadline=deadline))

    assert isinstance(error, ProviderTimeout)
    assert error.phase == "total"
    assert any(isinstance(event, TextDelta) for event in events)


def _ending(kind: str, stream: bytes, cuts: list[int]) -> Script:
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})

    async def script(reply: Reply) -> None:
        reply.head()
        for start, stop in pairwise(edges):
            reply.send(stream[start:stop])
            await asyncio.sleep(0)
        match kind:
            case "ends":
                reply.end()
            case "drops":
                reply.drop()
            case "resets":
                reply.reset()
            case "babbles":
                reply.raw(b"not a chunk\r\n")
                reply.drop()

    return script


@settings(max_examples=60, deadline=None)
@given(
    make=st.sampled_from([_openai, _anthropic, _retrying, _fallback]),
    words=st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=6),
    until=st.floats(0, 1),
    cuts=st.lists(st.integers(0, 10_000), max_size=8),
    kind=st.sampled_from(["ends", "drops", "resets", "babbles"]),
)
def test_wherever_an_answer_breaks_it_is_whole_or_an_error(
    make: Make, words: list[str], until: float, cuts: list[int], kind: str
) -> None:
    """Over real sockets: what was said is a beginning of the answer, and `Finish` comes only after all of it."""
    whole = b"".join((anthropic_events if make is _anthropic else openai_events)(*words))
    part = whole[: round(len(whole) * until)]
    events: list[Event] = []

    async def ask() -> ProviderError | None:
        async with Upstream() as upstream, Transport("openai") as transport:
            upstream.plays(_ending(kind, part, cuts))
            async with aclosing(make(transport, upstream.url).stream(STORY)) as batches:
                try:
                    async for batch in batches:
                        events.extend(batch)
                except ProviderError as error:
                    return error
        return None

    error = asyncio.run(ask())

    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert "".join(words).startswith(said)
    finished = [event for event in events if isinstance(event, Finish)]
    if error is None:
        assert finished == [Finish("stop")]
        assert said == "".join(words)
    else:
        assert finished == []
