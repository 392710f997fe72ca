"""Addresses that ask too often, or with tokens that are refused, are refused before `auth`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from logged import logged, phrase
from pydantic import SecretStr
from redis import Redis
from redis_server import RedisServer, running_redis
from small_app import bearer, built_in, client_of, small_app

from settings import BadSetting, Settings
from settings.sections import Storage

FORGED = {"authorization": "Bearer a.b.c"}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as server:
        yield server


def throttled(redis: RedisServer | None = None, **options: str):
    variables = {f"MIDDLEWARE_THROTTLE_{name}".upper(): value for name, value in options.items()}
    url = None if redis is None else SecretStr(redis.url)
    settings = Settings(storage=Storage(redis_url=url))
    return small_app(built_in("request_id", "throttle", "auth", **variables), settings)


def seen_from(address: str) -> dict[str, str]:
    return {"x-forwarded-for": address}


async def test_an_address_that_asks_too_often_is_429_until_its_window_has_moved_on():
    async with client_of(throttled(requests="3/hour")) as client:
        answers = [await client.get("/closed", bearer()) for _ in range(4)]

    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert 1 <= int(answers[3].headers["retry-after"]) <= 3600
    assert answers[3].headers["ratelimit-policy"] == '"address";q=3;w=3600'
    assert answers[3].headers["ratelimit"].startswith('"address";r=0;t=')


async def test_refused_tokens_close_the_door_to_good_ones_too():
    """Whoever tries tokens is not told when one was right."""
    async with client_of(throttled(refused="2/hour")) as client:
        before = await client.get("/closed", bearer())
        tried = [await client.get("/closed", FORGED) for _ in range(3)]
        after = await client.get("/closed", bearer())

    assert before.status == 200
    assert [answer.status for answer in tried] == [401, 401, 429]
    assert after.status == 429


async def test_a_probe_without_a_token_is_not_counted():
    async with client_of(throttled(requests="1/hour")) as client:
        answers = [await client.get("/api/v1/auth/ping") for _ in range(5)]
        with_token = [await client.get("/api/v1/auth/ping", FORGED) for _ in range(2)]

    assert [answer.status for answer in answers] == [200] * 5
    assert with_token[1].status == 429


async def test_behind_a_proxy_each_client_counts_for_itself():
    async with client_of(throttled(requests="1/hour", proxies="1")) as client:
        first = await client.get("/closed", bearer() | seen_from("192.0.2.1"))
        other = await client.get("/closed", bearer() | seen_from("192.0.2.2"))
        again = await client.get("/closed", bearer() | seen_from("192.0.2.1"))

    assert [first.status, other.status, again.status] == [200, 200, 429]


async def test_who_comes_past_the_proxy_is_known_by_the_connection():
    """Not one name for all of them."""
    async with client_of(throttled(requests="1/hour", proxies="1")) as client:
        past = await client.get("/closed", bearer())
        through = await client.get("/closed", bearer() | seen_from("127.0.0.1"))

    assert [past.status, through.status] == [200, 429]


async def test_what_a_client_writes_into_the_chain_is_not_believed():
    """The proxy appends; only as many entries as there are proxies are theirs."""
    async with client_of(throttled(requests="1/hour", proxies="1")) as client:
        first = await client.get("/closed", bearer() | seen_from("10.0.0.1, 192.0.2.1"))
        again = await client.get("/closed", bearer() | seen_from("10.0.0.2, 192.0.2.1"))
    async with client_of(throttled(requests="1/hour")) as client:
        direct = await client.get("/closed", bearer() | seen_from("192.0.2.1"))
        forged = await client.get("/closed", bearer() | seen_from("192.0.2.2"))

    assert [first.status, again.status] == [200, 429]
    assert [direct.status, forged.status] == [200, 429]


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("192.0.2.1:4711", "192.0.2.2:4711"),
        ("[2001:db8:1::1]:80", "[2001:db8:2::1]:80"),
        ("[2001:db8:1::1]", "[2001:db8:2::1]"),
    ],
)
async def test_an_address_may_come_with_a_port(one, another):
    """They all counted as one client, which anybody could shut out."""
    async with client_of(throttled(requests="1/hour", proxies="1")) as client:
        first = await client.get("/closed", bearer() | seen_from(one))
        other = await client.get("/closed", bearer() | seen_from(another))
        again = await client.get("/closed", bearer() | seen_from(one.replace(":4711", ":12")))

    assert [first.status, other.status, again.status] == [200, 200, 429]


async def test_a_network_of_ipv6_counts_as_one_client():
    async with client_of(throttled(requests="1/hour", proxies="1")) as client:
        first = await client.get("/closed", bearer() | seen_from("2001:db8:1:2::1"))
        neighbour = await client.get("/closed", bearer() | seen_from("2001:db8:1:2:ffff::9"))
        other = await client.get("/closed", bearer() | seen_from("2001:db8:1:3::1"))

    assert [first.status, neighbour.status, other.status] == [200, 429, 200]


async def test_processes_share_what_they_counted_in_redis(redis):
    async with client_of(throttled(redis, requests="2/hour")) as client:
        first = [await client.get("/closed", bearer()) for _ in range(2)]
    async with client_of(throttled(redis, requests="2/hour")) as client:
        other = await client.get("/closed", bearer())

    assert [answer.status for answer in first] == [200, 200]
    assert other.status == 429
    with Redis(port=redis.port) as store:
        assert all(key.startswith(b"chat:throttle:") for key in store.scan_iter())


async def test_without_redis_each_process_counts_for_itself(redis):
    with logged(phrase, "WARNING") as warnings:
        async with client_of(throttled(redis, requests="2/hour")) as client:
            await client.get("/closed", bearer())
            redis.kill()
            answers = [await client.get("/closed", bearer()) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 429]
    assert warnings == ["Shared throttle not available"]


@pytest.mark.parametrize("rate", ["many", "0/minute", "10/second;100/minute"])
def test_a_rate_that_is_none_is_refused_at_start(rate):
    """0 refused everybody, and of two rates the second meant nothing."""
    with pytest.raises(BadSetting, match=r"^MIDDLEWARE_THROTTLE_REQUESTS: "):
        throttled(requests=rate)
