"""The stub and the scenarios."""

from __future__ import annotations

import asyncio
from math import ceil

import pytest
from answers import batches_of, events_of, failed_events, failure_of, text_of
from attempts import FORTUNE, Attempts

from services.errors import (
    ProviderProtocolError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from services.events import Connected, Finish, Retry, TextDelta, Usage
from services.providers.faults import SCENARIOS, FaultInjection
from services.providers.retry import Retrying
from services.providers.scripted import Stub
from services.turn import Message, Prompt


def asking(message: str, scenario: str | None = None) -> Prompt:
    return Prompt("Be brief.", (Message("user", "earlier"), Message("user", message)), scenario)


async def test_the_stub_says_the_guide_s_two_lines_in_one_batch() -> None:
    batches = await batches_of(Stub(), asking("Hello, how are you?"))

    assert batches == [
        (
            Connected("stub", "gpt-4o-mini", 0.0),
            TextDelta('I understand you said: "Hello, how are you?". '),
            TextDelta("This is a stub response for Phase 4."),
            Usage(5, 15, "gpt-4o-mini"),
            Finish("stop"),
        )
    ]


async def test_asked_for_a_long_story_the_stub_tells_it_word_by_word() -> None:
    stub = Stub(model="m", story_duration=0.05)
    began = asyncio.get_running_loop().time()

    *words, usage, finish = await events_of(stub, asking("Tell me a LONG STORY, please"))

    assert asyncio.get_running_loop().time() - began >= 0.045
    assert len(words) > 200
    story = "".join(word.text for word in words if isinstance(word, TextDelta))
    assert story.startswith("The lighthouse at Merrow Point ")
    assert usage == Usage(7, ceil(len(story) / 4), "m")
    assert finish == Finish("stop")


async def test_a_story_keeps_the_deadline() -> None:
    prompt = asking("a long story")
    deadline = asyncio.get_running_loop().time() + 0.5
    limited = Prompt(prompt.system, prompt.messages, deadline=deadline)

    said, error = await failure_of(Stub(story_duration=50), limited)

    assert said.startswith("The ")
    assert isinstance(error, ProviderTimeout)
    assert error.phase == "total"


def played(inner: Attempts) -> Retrying:
    """A provider with every fault on offer, and no patience for them."""
    faults = FaultInjection(inner, first_token_delay=0.05, story_duration=0.05)
    return Retrying(faults, base=0.001)


async def test_without_a_scenario_the_provider_answers_itself() -> None:
    inner = Attempts(FORTUNE)

    batches = await batches_of(FaultInjection(inner), asking("x"))

    assert batches == list(FORTUNE)


@pytest.mark.parametrize(
    ("scenario", "kind", "said", "retries"),
    [
        ("timeout", ProviderTimeout, "", 2),
        ("rate_limit", ProviderRateLimited, "", 2),
        ("server_error", ProviderUnavailable, "", 2),
        ("malformed", ProviderProtocolError, "", 2),
        ("cut_mid_stream", ProviderProtocolError, "This answer is about to break", 0),
    ],
)
async def test_a_scenario_fails_as_the_real_thing_would(
    scenario: str, kind: type[Exception], said: str, retries: int
) -> None:
    inner = Attempts(FORTUNE)

    events, error = await failed_events(played(inner), asking("x", scenario))

    assert type(error) is kind
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == said
    assert sum(isinstance(event, Retry) for event in events) == retries
    assert inner.prompts == []


async def test_retry_then_ok_fails_exactly_once_in_every_turn() -> None:
    provider = played(Attempts(FORTUNE))

    turns = [
        asyncio.ensure_future(events_of(provider, asking("x", "retry_then_ok"))) for _ in range(3)
    ]

    for events in await asyncio.gather(*turns):
        assert [type(e) for e in events] == [Retry, TextDelta, TextDelta, Finish]


async def test_slow_first_token_is_silent_first_and_answers_then() -> None:
    began = asyncio.get_running_loop().time()

    text = await text_of(played(Attempts(FORTUNE)), asking("x", "slow_first_token"))

    assert text == "Hello world"
    assert asyncio.get_running_loop().time() - began >= 0.045


async def test_long_story_tells_it_whatever_was_asked() -> None:
    text = await text_of(played(Attempts(FORTUNE)), asking("x", "long_story"))

    assert text.startswith("The lighthouse at Merrow Point ")


def test_the_scenarios_are_those_of_the_contract() -> None:
    assert SCENARIOS == (
        "timeout",
        "rate_limit",
        "server_error",
        "retry_then_ok",
        "cut_mid_stream",
        "slow_first_token",
        "long_story",
        "malformed",
    )


def test_an_unknown_scenario_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="unknown scenario: 'nonsense'"):
        FaultInjection(Attempts(FORTUNE)).stream(asking("x", "nonsense"))
