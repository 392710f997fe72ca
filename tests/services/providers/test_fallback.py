"""Who answers when the first choice does not."""

from __future__ import annotations

import asyncio

import pytest
from answers import batches_of, events_of, failure_of, text_of
from attempts import FORTUNE, Attempts, broken
from replies import hangs
from upstream import Upstream

from services.errors import ProviderRejected, ProviderTimeout
from services.events import Finish, Retry, TextDelta
from services.providers.breaker import Breaker
from services.providers.fallback import Fallback
from services.providers.openai import OpenAI
from services.providers.retry import Retrying
from services.providers.transport import Transport
from services.turn import Prompt

PLAN_B = ((TextDelta("Plan B"), Finish("stop")),)


def rejected(status: int) -> ProviderRejected:
    return ProviderRejected("a", "no", phase="headers", status=status, retryable=False)


async def test_the_first_choice_answers_when_it_can(prompt: Prompt) -> None:
    a, b = Attempts(FORTUNE, name="a"), Attempts(PLAN_B, name="b")

    batches = await batches_of(Fallback([a, b]), prompt)

    assert batches == list(FORTUNE)
    assert b.prompts == []


@pytest.mark.parametrize("failure", [broken(), broken(retryable=False), rejected(401)])
async def test_the_next_one_takes_over_before_the_first_word(
    prompt: Prompt, failure: Exception
) -> None:
    a, b = Attempts([failure], name="a"), Attempts(PLAN_B, name="b")

    events = await events_of(Fallback([a, b]), prompt)

    assert [type(event) for event in events] == [Retry, TextDelta, Finish]
    assert (a.closed, b.closed) == (1, 1)


async def test_a_step_to_the_next_one_is_reported_under_the_name_of_the_one_that_failed(
    prompt: Prompt,
) -> None:
    a, b, c = Attempts([broken()]), Attempts([rejected(401)]), Attempts(PLAN_B)

    events = await events_of(Fallback([a, b, c]), prompt)

    assert events[:2] == [Retry("fake", 1, 0.0, "SERVER_ERROR"), Retry("a", 2, 0.0, "SERVER_ERROR")]


async def test_nobody_takes_over_once_a_word_was_said(prompt: Prompt) -> None:
    a, b = Attempts([(TextDelta("Hel"),), broken()], name="a"), Attempts(PLAN_B, name="b")

    await failure_of(Fallback([a, b]), prompt)

    assert b.prompts == []


@pytest.mark.parametrize("failure", [ProviderTimeout("a", "late", phase="total"), broken()])
async def test_nobody_takes_over_when_the_time_they_share_is_over(
    prompt: Prompt, failure: Exception
) -> None:
    a, b = Attempts([failure], name="a"), Attempts(PLAN_B, name="b")

    _, error = await failure_of(Fallback([a, b], total_timeout=0.0), prompt)

    assert error is failure
    assert b.prompts == []


async def test_one_whose_own_time_is_over_leaves_the_rest_to_the_next(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    """`ANTHROPIC_TOTAL_TIMEOUT_MS` may be longer than `OPENAI_TOTAL_TIMEOUT_MS`."""
    upstream.plays(hangs(headers=False))
    slow = Retrying(
        OpenAI(transport, api_key="k", model="m", base_url=upstream.url), total_timeout=0.1
    )

    assert await text_of(Fallback([slow, Attempts(PLAN_B)]), prompt) == "Plan B"


async def test_when_all_fail_the_last_failure_stands(prompt: Prompt) -> None:
    last = rejected(401)

    _, error = await failure_of(Fallback([Attempts([broken()]), Attempts([last])]), prompt)

    assert error is last


async def test_all_choices_share_one_deadline(prompt: Prompt) -> None:
    a, b = Attempts([broken()]), Attempts(PLAN_B)
    now = asyncio.get_running_loop().time()

    await events_of(Fallback([a, b], total_timeout=30), prompt)

    assert a.prompts[0].deadline == b.prompts[0].deadline == pytest.approx(now + 30, abs=10)


async def test_after_repeated_failures_turns_go_straight_to_the_next(prompt: Prompt) -> None:
    a, b = Attempts([broken()], name="a"), Attempts(PLAN_B, name="b")
    provider = Fallback([a, b], failures=3, cooldown=60)

    for _ in range(10):
        assert await text_of(provider, prompt) == "Plan B"

    assert len(a.prompts) == 3
    assert [type(event) for event in await events_of(provider, prompt)] == [TextDelta, Finish]


async def test_a_probe_that_is_answered_brings_the_first_choice_back(prompt: Prompt) -> None:
    a, b = Attempts([broken()], [broken()], FORTUNE, name="a"), Attempts(PLAN_B, name="b")
    provider = Fallback([a, b], failures=2, cooldown=0.0)

    answers = [await text_of(provider, prompt) for _ in range(4)]

    assert answers == ["Plan B", "Plan B", "Hello world", "Hello world"]


async def test_a_request_it_will_not_take_says_nothing_about_the_provider(prompt: Prompt) -> None:
    a, b = Attempts([rejected(400)], name="a"), Attempts(PLAN_B, name="b")
    provider = Fallback([a, b], failures=1, cooldown=60)

    for _ in range(3):
        await events_of(provider, prompt)

    assert len(a.prompts) == 3


@pytest.mark.parametrize("status", [401, 402, 403, 404])
async def test_an_account_that_is_served_nothing_is_left_alone(prompt: Prompt, status: int) -> None:
    """OpenRouter answers 402 until somebody pays, and everybody 404 for a model that is gone."""
    a, b = Attempts([rejected(status)], name="a"), Attempts(PLAN_B, name="b")
    provider = Fallback([a, b], failures=1, cooldown=60)

    for _ in range(3):
        await events_of(provider, prompt)

    assert len(a.prompts) == 1


async def test_a_failure_after_the_first_word_counts_for_the_breaker(prompt: Prompt) -> None:
    a = Attempts([(TextDelta("Hel"),), broken()], name="a")
    provider = Fallback([a, Attempts(PLAN_B, name="b")], failures=1, cooldown=60)
    await failure_of(provider, prompt)

    text = await text_of(provider, prompt)

    assert text == "Plan B"


async def test_when_every_breaker_is_open_the_last_one_is_asked_all_the_same(
    prompt: Prompt,
) -> None:
    a, b = Attempts([broken()], name="a"), Attempts([broken()], name="b")
    provider = Fallback([a, b], failures=1, cooldown=60)
    await failure_of(provider, prompt)

    await failure_of(provider, prompt)

    assert (len(a.prompts), len(b.prompts)) == (1, 2)


async def test_the_last_one_is_left_alone_as_well_when_another_was_asked(prompt: Prompt) -> None:
    a, b = Attempts([broken()], [rejected(400)], name="a"), Attempts([broken()], name="b")
    provider = Fallback([a, b], failures=1, cooldown=60)
    await failure_of(provider, prompt)
    provider.breakers["a"].succeeded()

    _, error = await failure_of(provider, prompt)

    assert isinstance(error, ProviderRejected)
    assert (len(a.prompts), len(b.prompts)) == (2, 1)


async def test_closing_the_wrapper_closes_what_it_wraps(prompt: Prompt) -> None:
    inner = Attempts(FORTUNE)
    batches = Fallback([inner]).stream(prompt)
    await anext(batches)

    await batches.aclose()

    assert inner.closed == 1


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_breaker_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(failures=2)

    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert not breaker.is_open
    breaker.failed()
    assert breaker.is_open


def test_a_breaker_tells_once_that_it_opened_and_once_that_it_closed() -> None:
    """Each is a line in the log, whatever was still under way."""
    breaker = Breaker(failures=2)

    opened = [breaker.failed() for _ in range(4)]
    closed = [breaker.succeeded() for _ in range(2)]

    assert opened == [False, True, False, False]
    assert closed == [True, False]


def test_an_open_breaker_admits_one_probe_per_cooldown_until_one_succeeds() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, cooldown=30, clock=clock)
    breaker.failed()

    admitted = []
    for clock.now in (0, 29, 30, 30, 59, 60):
        admitted.append(breaker.admit())
    assert admitted == [False, False, True, False, False, True]

    breaker.succeeded()
    assert [breaker.admit(), breaker.admit()] == [True, True]
