"""The limits as a client meets them, and slots that come back however a stream ends."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from patience import PATIENCE
from raw_http import CHAT, Response, answer_to, connected, request
from redis import Redis
from redis_server import RedisServer
from scripted_provider import ScriptedProvider, says

from services.errors import ProviderUnavailable
from services.events import Batches, Finish, TextDelta, Usage
from services.turn import Prompt
from settings import BadSetting, Settings
from settings.development import development_token

ENDINGS = ("whole", "failed", "hung up", "hung up early", "stopped", "replayed")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A real Redis."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=["in-process", "redis"])
def shared(request: pytest.FixtureRequest) -> dict[str, str]:
    """Variables: limits of the process alone, or shared by Redis."""
    if request.param == "in-process":
        return {}
    return {"REDIS_URL": request.getfixturevalue("redis").url}


def user(name: str) -> dict[str, str]:
    """The header of a user of one's own."""
    return {"Authorization": f"Bearer {development_token(Settings(), user_id=name)}"}


def refused(response: Response, status: int, code: str) -> None:
    """Fail unless *response* is that refusal, before the first byte of a stream."""
    assert (response.status, response.code) == (status, code)
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["retry-after"]) >= 1


async def test_the_request_after_the_last_one_of_a_minute_is_429(start, shared, bearer):
    node = await start({"LIMIT_REQUESTS_PER_MINUTE": "2", **shared}, provider=says("hi"))

    answers = [await answer_to(node.port, request(bearer)) for _ in range(3)]
    other = await answer_to(node.port, request(user("somebody-else")))

    assert [answer.status for answer in answers] == [200, 200, 429]
    refused(answers[2], 429, "RATE_LIMIT")
    assert 10 <= int(answers[2].headers["retry-after"]) <= 30
    assert answers[2].headers["ratelimit-policy"] == '"requests";q=2;w=60'
    assert answers[2].headers["ratelimit"].startswith('"requests";r=0;t=')
    assert other.status == 200


async def test_an_admitted_answer_tells_what_is_left(start, shared, bearer):
    variables = {"LIMIT_REQUESTS_PER_MINUTE": "30", "LIMIT_USER_STREAMS": "3", **shared}
    node = await start(variables, provider=says("hi"))

    first = await answer_to(node.port, request(bearer))
    await node.idle()
    second = await answer_to(node.port, request(bearer))

    policy = '"requests";q=30;w=60,"streams";q=3;qu="concurrent-requests"'
    assert [first.headers["ratelimit-policy"], second.headers["ratelimit-policy"]] == [policy] * 2
    assert first.headers["ratelimit"] == '"requests";r=29;t=2,"streams";r=2'
    assert re.fullmatch(r'"requests";r=2[89];t=[12],"streams";r=2', second.headers["ratelimit"])


async def test_quotas_that_are_not_set_are_not_told(start, bearer):
    node = await start({"LIMIT_USER_STREAMS": "2"}, provider=says("hi"))

    response = await answer_to(node.port, request(bearer))

    assert response.headers["ratelimit-policy"] == '"streams";q=2;qu="concurrent-requests"'
    assert response.headers["ratelimit"] == '"streams";r=1'


async def test_where_no_quota_is_set_nothing_is_told(node, bearer):
    """In development: the guide's first command shows the guide's headers."""
    response = await answer_to(node.port, request(bearer))

    assert not [name for name in response.headers if name.startswith("ratelimit")]


async def test_joining_an_answer_costs_nothing_and_says_nothing_of_what_is_left(start, bearer):
    node = await start({"LIMIT_REQUESTS_PER_MINUTE": "1"}, provider=says("hi"))
    twice = request(bearer, None, "Idempotency-Key: k")

    first, again = [await answer_to(node.port, twice) for _ in range(2)]
    other = await answer_to(node.port, request(bearer))

    assert [first.status, again.status, other.status] == [200, 200, 429]
    assert again.body == first.body
    assert "ratelimit" in first.headers
    assert "ratelimit" not in again.headers


async def test_an_address_whose_tokens_are_refused_is_slowed_down_before_its_body_is_read(
    start, bearer
):
    node = await start(
        {
            "MIDDLEWARE": "request_id,access_log,cors,throttle,auth,limits",
            "MIDDLEWARE_THROTTLE_REFUSED": "2/hour",
        }
    )
    forged = {"Authorization": "Bearer a.b.c"}

    tried = [await answer_to(node.port, request(forged)) for _ in range(2)]
    slowed = await answer_to(node.port, request(bearer, b"", "Content-Length: 1000"))

    assert [answer.status for answer in tried] == [401, 401]
    refused(slowed, 429, "RATE_LIMIT")
    assert slowed.headers["ratelimit-policy"] == '"address";q=2;w=3600'
    await node.serves()


async def test_without_the_plugin_there_are_no_limits(start, bearer):
    node = await start(
        {"MIDDLEWARE": "request_id,auth", "LIMIT_REQUESTS_PER_MINUTE": "1"}, provider=says("hi")
    )

    answers = [await answer_to(node.port, request(bearer)) for _ in range(3)]

    assert [answer.status for answer in answers] == [200] * 3
    assert "ratelimit" not in answers[0].headers


async def test_a_user_with_all_streams_open_is_429_until_one_ends(start, shared, bearer):
    go_on = asyncio.Event()
    provider = ScriptedProvider(
        (TextDelta("one"),), go_on, (Usage(1, 1, model="m"), Finish("stop"))
    )
    node = await start({"LIMIT_USER_STREAMS": "1", **shared}, provider=provider)

    async with connected(node.port) as wire:
        wire.send(request(bearer))
        await wire.reader.readuntil(b'"one"')
        during = await answer_to(node.port, request(bearer))
        go_on.set()
        await wire.reader.readuntil(b"event: done")
    await node.idle()
    after = await answer_to(node.port, request(bearer))

    refused(during, 429, "RATE_LIMIT")
    assert '"streams";r=0' in during.headers["ratelimit"]
    assert after.status == 200


async def test_a_full_process_is_503(start, bearer):
    node = await start({"LIMIT_PROCESS_STREAMS": "1"}, provider=ScriptedProvider(None))

    async with connected(node.port) as wire:
        wire.send(request(bearer))
        await wire.reader.readuntil(b"stream\n\n")
        full = await answer_to(node.port, request(user("somebody-else")))

    refused(full, 503, "OVERLOADED")


async def test_a_budget_that_could_not_pay_the_worst_case_is_429(start, shared, bearer):
    """The stub's model has a price; an answer to so much may cost more than this budget."""
    node = await start({"LIMIT_DAILY_BUDGET_USD": "0.0012", **shared}, provider=says("hi"))

    short = await answer_to(node.port, request(bearer))
    long = await answer_to(node.port, request(bearer, message="word " * 800))

    assert short.status == 200
    refused(long, 429, "BUDGET_EXCEEDED")


async def test_a_budget_that_would_pay_for_no_answer_stops_the_start(start):
    """Everybody was told that it is used up, and nobody knew why."""
    with pytest.raises(
        BadSetting, match=r"^LIMIT_DAILY_BUDGET_USD: 0.0001 would pay for no answer"
    ):
        await start({"LIMIT_DAILY_BUDGET_USD": "0.0001", "MIDDLEWARE": "auth,limits"})


async def test_without_redis_the_process_keeps_to_its_limits_and_shares_them_again_later(
    start, redis, bearer
):
    node = await start(
        {"LIMIT_USER_STREAMS": "1", "REDIS_URL": redis.url}, provider=ScriptedProvider(None)
    )

    async with AsyncExitStack() as stack:

        async def running(headers: dict[str, str]) -> None:
            wire = await stack.enter_async_context(connected(node.port))
            wire.send(request(headers))
            await wire.reader.readuntil(b"stream\n\n")

        await running(bearer)
        redis.kill()
        second = await answer_to(node.port, request(bearer))
        await running(user("somebody-else"))
        redis.start()
        async with asyncio.timeout(30):
            for number in range(1_000):
                await running(user(f"newcomer-{number}"))
                with Redis(port=redis.port) as client:
                    if list(client.scan_iter("chat:limits:*:holds")):
                        break
                await asyncio.sleep(0.2)

    refused(second, 429, "RATE_LIMIT")
    await node.idle()


async def test_a_refusal_uses_up_no_idempotency_key(start, bearer):
    go_on = asyncio.Event()
    provider = ScriptedProvider(
        (TextDelta("one"),), go_on, (Usage(1, 1, model="m"), Finish("stop"))
    )
    node = await start({"LIMIT_USER_STREAMS": "1"}, provider=provider)

    async with connected(node.port) as wire:
        wire.send(request(bearer))
        await wire.reader.readuntil(b'"one"')
        during = await answer_to(node.port, request(bearer, None, "Idempotency-Key: k"))
        go_on.set()
    await node.idle()
    after = await answer_to(node.port, request(bearer, None, "Idempotency-Key: k"))

    assert (during.status, after.status) == (429, 200)


class Fickle:
    """A provider that does what the message says."""

    name = "fickle"

    async def stream(self, prompt: Prompt) -> Batches:
        yield (TextDelta("Well, "),)
        await asyncio.sleep(random.uniform(0, 0.01))
        if prompt.question == "failed":
            raise ProviderUnavailable(self.name, "gone", phase="stream", retryable=False)
        if prompt.question in ("hung up", "stopped"):
            await asyncio.Event().wait()
        yield (TextDelta("yes."), Usage(1, 2, model="gpt-4o-mini"), Finish("stop"))


@pytest.mark.parametrize("count", [2_000])
async def test_slots_come_back_however_a_stream_ends(start, count):
    await _end_at_random(await start(_roomy(), provider=Fickle()), count, random.Random(1))


async def test_slots_come_back_to_redis_however_a_stream_ends(start, redis):
    node = await start({"REDIS_URL": redis.url, **_roomy()}, provider=Fickle())

    await _end_at_random(node, 300, random.Random(2))

    # A busy machine may take Redis for gone, and then settles 5 s later.
    with Redis(port=redis.port) as client:
        async with asyncio.timeout(PATIENCE):
            while list(client.scan_iter("chat:limits:*:holds")):  # noqa: ASYNC110 - Redis tells nobody
                await asyncio.sleep(0.02)


def _roomy() -> dict[str, str]:
    return {
        "LIMIT_USER_STREAMS": "50",
        "LIMIT_REQUESTS_PER_MINUTE": "100000",
        "STREAM_RESUME_GRACE_MS": "20",
    }


async def _end_at_random(node, count: int, chance: random.Random) -> None:
    """Have *count* streams end in every way, then see that the user may have all streams again."""
    bearer = user("leaky")
    turns = iter([(number, chance.choice(ENDINGS), chance.random()) for number in range(count)])

    async def client() -> None:
        for number, ending, moment in turns:
            await _one(node.port, bearer, number, ending, moment)

    async with asyncio.timeout(4 * PATIENCE):
        await asyncio.gather(*[client() for _ in range(16)])
        await node.idle()

    assert len(node.services.streams) == 0
    async with asyncio.timeout(PATIENCE):
        again = await asyncio.gather(
            *[answer_to(node.port, request(bearer, message="whole")) for _ in range(50)]
        )
    assert {answer.status for answer in again} == {200}


async def _one(port: int, bearer: dict[str, str], number: int, ending: str, moment: float) -> None:
    resumable = ending == "stopped" or moment < 0.3
    data = request(bearer, message=ending, resumable=resumable)
    async with connected(port) as wire:
        match ending:
            case "whole" | "failed":
                wire.send(data)
                assert b"event: done" in (await wire.response()).body
            case "hung up early":
                wire.send(data[: int(len(data) * moment) + 1])
                await wire.writer.drain()
            case "hung up":
                wire.send(data)
                await wire.reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(moment * 0.005)
            case "stopped":
                wire.send(data)
                head = await wire.reader.readuntil(b"\r\n\r\n")
                stream_id = head.partition(b"x-stream-id: ")[2].partition(b"\r\n")[0].decode()
                stop = request(bearer, b"", method="DELETE", path=f"{CHAT}/{stream_id}")
                assert (await answer_to(port, stop)).status == 202
                await wire.reader.readuntil(b'"aborted"')
            case "replayed":
                twice = request(bearer, None, f"Idempotency-Key: k{number}", message="whole")
                first, second = await asyncio.gather(answer_to(port, twice), answer_to(port, twice))
                assert first.body == second.body
