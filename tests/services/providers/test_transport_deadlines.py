"""How long a provider may take: to connect, to its first token, between two, and for all of it."""

from __future__ import annotations

import asyncio
import time

import pytest
from answers import failure_of, openai_at, text_of
from dialects import DONE, chunk, role_chunk
from replies import hangs, repeats
from upstream import Reply, Script, Upstream, openai, sends

from services.errors import Phase, ProviderTimeout, ProviderUnavailable
from services.events import TextDelta
from services.providers.transport import Transport
from services.turn import Prompt

pytestmark = pytest.mark.usefixtures("reading")


@pytest.mark.parametrize(
    ("script", "phase", "said"),
    [
        pytest.param(hangs(headers=False), "first_token", "", id="before headers"),
        pytest.param(hangs(), "first_token", "", id="after headers"),
        pytest.param(hangs(role_chunk()), "first_token", "", id="after the role"),
        pytest.param(repeats(role_chunk()), "first_token", "", id="nothing but roles"),
        pytest.param(repeats(b": busy\n\n"), "first_token", "", id="nothing but comments"),
        pytest.param(hangs(chunk("Hel")), "idle", "Hel", id="in mid-stream"),
    ],
)
async def test_a_silence_of_any_kind_ends_in_a_timeout_that_names_its_phase(
    upstream: Upstream, prompt: Prompt, script: Script, phase: Phase, said: str
) -> None:
    upstream.plays(script)
    first = 0.1 if phase == "first_token" else 60.0
    async with Transport("openai", first_token_timeout=first, idle_timeout=0.1) as transport:
        text, error = await failure_of(openai_at(transport, upstream.url), prompt)

        assert isinstance(error, ProviderTimeout)
        assert (error.phase, text) == (phase, said)
        assert error.retryable
        await upstream.abandoned()


async def test_a_head_that_comes_just_when_the_patience_ends_begins_no_answer(
    upstream: Upstream, prompt: Prompt
) -> None:
    """In the same turn of the loop; after that nobody looks at the clock any more."""

    async def script(reply: Reply) -> None:
        reply.head()
        time.sleep(0.3)  # noqa: ASYNC251 - so that the loop finds both
        await asyncio.Event().wait()

    upstream.plays(script)
    async with Transport("openai", first_token_timeout=0.2) as transport:
        _, error = await failure_of(openai_at(transport, upstream.url), prompt)

    assert error.phase == "first_token"


async def test_the_gap_between_tokens_may_be_shorter_than_the_patience_for_the_first(
    upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(hangs(chunk("Hel")))
    async with Transport("openai", first_token_timeout=60, idle_timeout=0.05) as transport:
        _, error = await failure_of(openai_at(transport, upstream.url), prompt)

        assert error.phase == "idle"


async def test_steady_tokens_outlive_every_deadline_but_the_total(
    upstream: Upstream, prompt: Prompt
) -> None:
    words = [chunk("x") for _ in range(40)]
    upstream.plays(sends([*words, chunk(reason="stop"), DONE], pause=0.04))
    async with Transport("openai", first_token_timeout=1.2, idle_timeout=1.2) as transport:
        text = await text_of(openai_at(transport, upstream.url), prompt)

        assert text == "x" * 40


async def test_a_slow_consumer_is_not_the_provider_s_silence(
    upstream: Upstream, prompt: Prompt
) -> None:
    upstream.plays(openai("Hello", " world"))
    async with Transport("openai", first_token_timeout=0.5, idle_timeout=0.5) as transport:
        said = ""
        async for batch in openai_at(transport, upstream.url).stream(prompt):
            said += "".join(event.text for event in batch if isinstance(event, TextDelta))
            await asyncio.sleep(0.6)

        assert said == "Hello world"


@pytest.mark.parametrize("script", [hangs(headers=False), hangs(), repeats(chunk("x"))])
async def test_the_prompt_s_deadline_ends_an_answer_in_every_phase(
    transport: Transport, upstream: Upstream, prompt: Prompt, script: Script
) -> None:
    upstream.plays(script)
    soon = asyncio.get_running_loop().time() + 0.1
    limited = Prompt(prompt.system, prompt.messages, deadline=soon)

    _, error = await failure_of(openai_at(transport, upstream.url), limited)

    assert isinstance(error, ProviderTimeout)
    assert error.phase == "total"
    assert not error.retryable
    await upstream.abandoned()


async def test_a_connection_that_is_not_answered_ends_in_a_timeout(
    full_port: int, prompt: Prompt
) -> None:
    async with Transport("openai", connect_timeout=0.1) as transport:
        _, error = await failure_of(
            openai_at(transport, f"http://127.0.0.1:{full_port}/v1"), prompt
        )

    assert isinstance(error, ProviderTimeout)
    assert error.phase == "connect"


async def test_a_refused_connection_is_a_provider_that_is_unavailable(
    transport: Transport, unused_port: int, prompt: Prompt
) -> None:
    _, error = await failure_of(openai_at(transport, f"http://127.0.0.1:{unused_port}/v1"), prompt)

    assert isinstance(error, ProviderUnavailable)
    assert error.phase == "connect"
