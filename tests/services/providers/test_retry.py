"""When a provider is asked again, and when not."""

from __future__ import annotations

import asyncio

import pytest
from answers import batches_of, events_of, failure_of, until
from attempts import FORTUNE, Attempts, broken
from dialects import chunk
from hypothesis import given
from hypothesis import strategies as st
from replies import hangs, refuses
from upstream import Script, Upstream, openai

from services.errors import ProviderError, ProviderRejected, ProviderTimeout
from services.events import Batch, Connected, Event, Finish, Retry, TextDelta
from services.providers.openai import OpenAI
from services.providers.retry import Retrying
from services.providers.transport import Transport
from services.turn import Prompt

CONNECTED = (Connected("fake", "m", 0.0),)


async def test_an_answer_passes_through_batch_by_batch(prompt: Prompt) -> None:
    provider = Retrying(Attempts(FORTUNE))

    assert await batches_of(provider, prompt) == list(FORTUNE)


async def test_a_failure_before_the_first_word_is_reported_and_asked_again(prompt: Prompt) -> None:
    inner = Attempts([broken()], [CONNECTED, broken()], FORTUNE)
    provider = Retrying(inner, base=0.001)

    batches = await batches_of(provider, prompt)

    retries = [e for batch in batches for e in batch if isinstance(e, Retry)]
    assert [(r.provider, r.attempt, r.code) for r in retries] == [
        ("fake", 1, "SERVER_ERROR"),
        ("fake", 2, "SERVER_ERROR"),
    ]
    assert batches[-3:] == list(FORTUNE)
    assert inner.closed == 3


async def test_after_the_last_retry_the_failure_stands(prompt: Prompt) -> None:
    inner = Attempts([broken()])
    provider = Retrying(inner, max_retries=2, base=0.001)

    await failure_of(provider, prompt)

    assert len(inner.prompts) == 3


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param([(TextDelta("Hel"),), broken()], id="a word was said"),
        pytest.param([(Connected("f", "m", 0.0), TextDelta("Hel")), broken()], id="in one batch"),
        pytest.param([broken(retryable=False)], id="it says a retry will not help"),
        pytest.param(
            [ProviderRejected("fake", "bad key", phase="headers", retryable=False)], id="rejected"
        ),
    ],
)
async def test_there_is_no_retry_when(prompt: Prompt, attempt: list[Batch | Exception]) -> None:
    inner = Attempts(attempt)

    await failure_of(Retrying(inner, base=0.001), prompt)

    assert len(inner.prompts) == 1


async def test_waits_double_up_to_sixteen_times_the_base_less_a_quarter_at_most(
    prompt: Prompt,
) -> None:
    provider = Retrying(Attempts(*[[broken()]] * 7, FORTUNE), max_retries=7, base=0.001)

    events = await events_of(provider, prompt)

    delays = [event.delay for event in events if isinstance(event, Retry)]
    for delay, longest in zip(delays, [1, 2, 4, 8, 16, 16, 16], strict=True):
        assert 0.75 * longest <= delay * 1000 <= longest
    assert len(set(delays[-3:])) == 3  # or callers that failed together would come back together


async def test_the_server_s_wait_goes_before_our_own(prompt: Prompt) -> None:
    provider = Retrying(Attempts([broken(retry_after=0.0)], FORTUNE), base=60)

    (retry, *_) = await events_of(provider, prompt)

    assert retry == Retry("fake", 1, 0.0, "SERVER_ERROR")


async def test_a_wait_that_does_not_fit_fails_now_and_is_passed_on(prompt: Prompt) -> None:
    inner = Attempts([broken(retry_after=700.0)], FORTUNE)

    _, error = await failure_of(Retrying(inner, total_timeout=600), prompt)

    assert error.retry_after == 700.0
    assert len(inner.prompts) == 1


async def test_our_own_wait_must_fit_as_well(prompt: Prompt) -> None:
    inner = Attempts([broken()], FORTUNE)

    await failure_of(Retrying(inner, base=10, total_timeout=5), prompt)

    assert len(inner.prompts) == 1


async def test_attempts_share_one_deadline_which_is_the_sooner_one(prompt: Prompt) -> None:
    now = asyncio.get_running_loop().time()
    inner = Attempts([broken()], FORTUNE)

    await events_of(Retrying(inner, base=0.001, total_timeout=30), prompt)
    await events_of(
        Retrying(inner, total_timeout=30), Prompt("", prompt.messages, deadline=now + 10)
    )

    first, second, third = (asked.deadline for asked in inner.prompts)
    assert first == second == pytest.approx(now + 30, abs=10)
    assert third == pytest.approx(now + 10, abs=0.1)


async def test_the_total_deadline_ends_a_trickle(
    transport: Transport, upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(hangs(chunk("Hel")))
    provider = Retrying(
        OpenAI(transport, api_key="k", model="m", base_url=upstream.url), total_timeout=1.0
    )

    said, error = await failure_of(provider, prompt)

    assert said == "Hel"
    assert isinstance(error, ProviderTimeout)
    assert error.phase == "total"
    assert len(upstream.requests) == 1


async def test_leaving_during_a_wait_ends_it_at_once(prompt: Prompt) -> None:
    inner = Attempts([broken()])
    provider = Retrying(inner, base=60)
    asking = asyncio.ensure_future(failure_of(provider, prompt))
    await until(lambda: inner.closed == 1)

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert len(inner.prompts) == 1


async def test_closing_the_wrapper_closes_what_it_wraps(prompt: Prompt) -> None:
    inner = Attempts(FORTUNE)
    batches = Retrying(inner).stream(prompt)
    await anext(batches)

    await batches.aclose()

    assert inner.closed == 1


@pytest.mark.parametrize(
    ("first", "requests"),
    [
        (refuses(500), 2),
        (refuses(408), 2),
        (refuses(429, headers={"retry-after-ms": "1"}), 2),
        (refuses(429, headers={"retry-after": "0"}), 2),
        (refuses(429, headers={"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}), 2),
        (refuses(429, headers={"retry-after": "nan"}), 2),
        (refuses(400, headers={"x-should-retry": "true"}), 2),
        (refuses(500, headers={"x-should-retry": "false"}), 1),
        (refuses(429, error={"code": "insufficient_quota"}), 1),
        (refuses(401), 1),
    ],
)
async def test_the_policy_holds_on_the_wire(
    transport: Transport, upstream: Upstream, prompt: Prompt, first: Script, requests: int
) -> None:
    upstream.plays(first, openai("Hello"))
    provider = Retrying(
        OpenAI(transport, api_key="k", model="m", base_url=upstream.url), base=0.001
    )

    if requests == 2:
        events = await events_of(provider, prompt)
        assert [type(event) for event in events[:2]] == [Retry, TextDelta]
    else:
        await failure_of(provider, prompt)

    assert len(upstream.requests) == requests


step = st.sampled_from(
    [CONNECTED, (TextDelta("x"),), (TextDelta("x"), TextDelta("y")), "fails", "is rejected"]
)


@given(plan=st.lists(st.lists(step, max_size=4), min_size=1, max_size=5), retries=st.integers(0, 4))
def test_whatever_fails_whenever_the_answer_is_one_attempt_s(
    plan: list[list[Batch | str]], retries: int
) -> None:
    """No word is ever repeated, and it ends with `Finish` or an error, never with both."""
    failures = {"fails": broken(), "is rejected": broken(retryable=False)}
    attempts = [
        [*(failures[s] if isinstance(s, str) else s for s in steps), (Finish("stop"),)]
        for steps in plan
    ]
    inner = Attempts(*attempts)
    provider = Retrying(inner, max_retries=retries, base=0.0)
    events: list[Event] = []

    async def ask() -> ProviderError | None:
        try:
            async for batch in provider.stream(Prompt("", ())):
                events.extend(batch)
        except ProviderError as error:
            return error
        return None

    error = asyncio.run(ask())

    finishes = [event for event in events if isinstance(event, Finish)]
    assert (error is None) == (len(finishes) == 1)
    assert sum(isinstance(event, Retry) for event in events) == len(inner.prompts) - 1 <= retries
    words = [isinstance(event, TextDelta) for event in events]
    if True in words:
        assert not any(isinstance(e, Retry) for e in events[words.index(True) :])
