"""Keys of an issuer: fetched, renewed, kept through outages, and never taken from a stranger."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import AsyncExitStack

import pytest
from aiohttp import web
from key_server import KeyServer, as_json, serving
from patience import PATIENCE

from services.errors import KeysUnavailable
from services.jwks import MAX_BYTES, open_keys

ALWAYS: dict[str, float] = {"renew_after": 0.0, "cooldown": 0.0, "retry": 0.0}


async def test_keys_of_both_kinds_are_found(key_server, elliptic, rsa):
    key_server.publish(elliptic, rsa)

    async with open_keys(key_server.url) as keys:
        found = [await keys.find("elliptic", "ES256"), await keys.find("rsa", "RS256")]

    assert [key.algorithm_name for key in found] == ["ES256", "RS256"]
    assert key_server.requests == 1


async def test_a_key_is_found_for_its_own_algorithm_only(key_server, elliptic, rsa):
    key_server.publish(elliptic, rsa)

    async with open_keys(key_server.url) as keys:
        assert await keys.find("elliptic", "RS256") is None
        assert await keys.find("rsa", "ES256") is None
        assert await keys.find("rsa", "HS256") is None


async def test_two_keys_may_share_an_id_if_their_types_differ(key_server, elliptic, rsa):
    key_server.publish(elliptic.public | {"kid": "a"}, rsa.public | {"kid": "a"})

    async with open_keys(key_server.url) as keys:
        found = [await keys.find("a", "ES256"), await keys.find("a", "RS256")]

    assert [key.key_type for key in found] == ["EC", "RSA"]


async def test_callers_at_once_share_one_fetch(key_server, elliptic):
    key_server.publish(elliptic)

    async with open_keys(key_server.url, retry=0.0) as keys:
        found = await asyncio.gather(*(keys.find("elliptic", "ES256") for _ in range(100)))

    assert all(found)
    assert key_server.requests == 1


async def test_a_caller_that_leaves_does_not_stop_the_fetch_of_others(key_server, elliptic):
    """A client that hangs up must not fail the requests that wait for the same keys."""
    key_server.publish(elliptic)

    async with open_keys(key_server.url) as keys:
        leaving = asyncio.create_task(keys.find("elliptic", "ES256"))
        staying = asyncio.create_task(keys.find("elliptic", "ES256"))
        await key_server.asked(1)
        leaving.cancel()

        assert await staying is not None
        assert leaving.cancelled()


async def test_closing_stops_a_fetch(key_server):
    key_server.answer = _never

    async with asyncio.timeout(PATIENCE), open_keys(key_server.url, patience=10 * PATIENCE):
        await key_server.asked(1)

    assert not [task for task in asyncio.all_tasks() if task.get_name() == "jwks"]


async def test_forged_key_ids_do_not_hammer_the_issuer(key_server, elliptic):
    key_server.publish(elliptic)

    async with open_keys(key_server.url) as keys:
        for number in range(100):
            assert await keys.find(f"forged-{number}", "ES256") is None

    assert key_server.requests == 1


async def test_forged_key_ids_do_not_hammer_an_issuer_that_is_down(key_server, elliptic):
    key_server.publish(elliptic)

    async with open_keys(key_server.url, renew_after=0.0) as keys:
        await keys.find("elliptic", "ES256")
        key_server.send(b"", status=500)
        await keys.find("elliptic", "ES256")
        for number in range(100):
            with pytest.raises(KeysUnavailable):
                await keys.find(f"forged-{number}", "ES256")
            assert await keys.find("elliptic", "ES256") is not None

    assert key_server.requests == 2


async def test_a_new_key_is_found_once_a_fetch_is_due(key_server, elliptic, rsa):
    key_server.publish(elliptic)

    async with open_keys(key_server.url, cooldown=0.0) as keys:
        await keys.find("elliptic", "ES256")
        key_server.publish(elliptic, rsa)

        assert await keys.find("rsa", "RS256") is not None


async def test_a_set_is_renewed_in_the_background(key_server, elliptic, rsa):
    """Nobody waits for the issuer as long as the set is not too old."""
    key_server.publish(elliptic, rsa)

    async with open_keys(key_server.url, renew_after=0.0) as keys:
        await keys.find("rsa", "RS256")
        key_server.publish(elliptic)
        assert await keys.find("rsa", "RS256") is not None
        await keys.find("unknown", "RS256")

        assert await keys.find("rsa", "RS256") is None


async def test_a_withdrawn_key_is_not_used_once_the_set_is_too_old(key_server, elliptic, rsa):
    """Not even once, by the first token after a quiet weekend."""
    key_server.publish(elliptic, rsa)

    async with open_keys(key_server.url, renew_after=0.0, max_age=0.0) as keys:
        await keys.find("rsa", "RS256")
        key_server.publish(elliptic)

        assert await keys.find("rsa", "RS256") is None
        assert await keys.find("elliptic", "ES256") is not None


async def test_a_set_that_is_too_old_is_used_while_the_key_server_is_down(key_server, elliptic):
    key_server.publish(elliptic)

    async with open_keys(key_server.url, renew_after=0.0, max_age=0.0) as keys:
        await keys.find("elliptic", "ES256")
        key_server.send(b"", status=500)
        found = [await keys.find("elliptic", "ES256") for _ in range(10)]

    assert all(found)
    assert key_server.requests == 2


async def test_an_issuer_that_withdraws_everything_is_believed(key_server, elliptic):
    key_server.publish(elliptic)

    async with open_keys(key_server.url, **ALWAYS) as keys:
        await keys.find("elliptic", "ES256")
        key_server.publish()
        await keys.find("unknown", "ES256")

        assert await keys.find("elliptic", "ES256") is None


async def test_known_keys_work_while_the_key_server_is_down(elliptic, lines):
    async with AsyncExitStack() as issuer:
        server = await issuer.enter_async_context(serving(KeyServer()))
        server.publish(elliptic)

        async with open_keys(server.url, **ALWAYS) as keys:
            await keys.find("elliptic", "ES256")
            await issuer.aclose()
            for _ in range(5):
                with pytest.raises(KeysUnavailable):
                    await keys.find("unknown", "ES256")
                assert await keys.find("elliptic", "ES256") is not None

    assert lines == [("INFO", "Key set loaded"), ("WARNING", "Key set not available")]


async def test_a_key_server_down_at_the_start_is_no_fault_of_the_token(elliptic, lines):
    """503 with Retry-After, not 401: an outage must not log users out; and it recovers."""
    async with serving(KeyServer()) as server:
        port = int(server.url.split(":")[2].split("/")[0])

    async with open_keys(server.url, retry=0.0) as keys:
        with pytest.raises(KeysUnavailable) as refused:
            await keys.find("elliptic", "ES256")
        async with serving(KeyServer(), port) as server:
            server.publish(elliptic)
            found = await keys.find("elliptic", "ES256")

    assert refused.value.status == 503
    assert refused.value.headers == {"retry-after": "1"}
    assert found is not None
    assert lines == [("WARNING", "Key set not available"), ("INFO", "Key set loaded")]


async def test_a_start_without_keys_is_retried_after_seconds_not_a_minute(key_server):
    key_server.send(b"", status=503)

    async with open_keys(key_server.url) as keys:
        with pytest.raises(KeysUnavailable) as refused:
            await keys.find("elliptic", "ES256")

    assert refused.value.headers == {"retry-after": "5"}


async def _never(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * MAX_BYTES)


async def _trickling(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


async def _cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-length": "1000"})
    await response.prepare(request)
    await response.write(b'{"keys": [')
    request.transport.close()
    return response


BODIES = {
    "empty": b"",
    "malformed": b'{"keys": [',
    "text": b"<html>Welcome to the hotel's wireless network</html>",
    "nested too deep": b"[" * 60_000,
    "a number too long": b'{"keys": ' + b"9" * 5000 + b"}",
    "not UTF-8": b"\xff\xff\xff",
    "a list": b"[]",
    "null": b"null",
    "without keys": b"{}",
    "keys of another type": b'{"keys": {}}',
    "huge": b'{"keys": []}' + b" " * MAX_BYTES,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_an_answer_that_is_no_key_set_changes_nothing(key_server, elliptic, body):
    key_server.publish(elliptic)

    async with open_keys(key_server.url, **ALWAYS) as keys:
        await keys.find("elliptic", "ES256")
        key_server.send(body)
        with pytest.raises(KeysUnavailable):
            await keys.find("unknown", "ES256")

        assert await keys.find("elliptic", "ES256") is not None


@pytest.mark.parametrize("answer", [_never, _endless, _trickling, _cut])
async def test_a_key_server_that_is_slow_or_endless_is_left_alone(key_server, elliptic, answer):
    key_server.publish(elliptic)

    async with asyncio.timeout(PATIENCE), open_keys(key_server.url, patience=1.0, **ALWAYS) as keys:
        await keys.find("elliptic", "ES256")
        key_server.answer = answer
        with pytest.raises(KeysUnavailable):
            await keys.find("unknown", "ES256")

        assert await keys.find("elliptic", "ES256") is not None


@pytest.mark.parametrize("status", [203, 206, 301, 302, 307, 308, 401, 404, 500, 503])
async def test_only_a_200_is_read_and_no_redirect_followed(key_server, elliptic, status):
    async with serving(KeyServer()) as elsewhere:
        elsewhere.publish(elliptic)
        key_server.send(as_json(elliptic), status=status, location=elsewhere.url)

        async with open_keys(key_server.url) as keys:
            with pytest.raises(KeysUnavailable):
                await keys.find("elliptic", "ES256")

        assert elsewhere.requests == 0


async def test_a_compressed_answer_is_not_unpacked(key_server, elliptic):
    """A gzip bomb stays a small file."""
    key_server.send(gzip.compress(as_json(elliptic)), content_encoding="gzip")

    async with open_keys(key_server.url) as keys:
        with pytest.raises(KeysUnavailable):
            await keys.find("elliptic", "ES256")
