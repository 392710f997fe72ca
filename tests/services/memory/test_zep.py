"""Zep's wire, and all the ways it can fail."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from databases import Database
from said import turn
from zep_double import KEY, Call, Fault, ZepDouble

from services.errors import Unavailable
from services.memory.zep import ZepMemory
from services.memory.zep_api import ZepApi, ZepRefused


def _keys(calls: list[Call]) -> list[str]:
    return [call.headers["Idempotency-Key"] for call in calls]


async def test_a_turn_goes_over_the_wire_as_zep_wants_it(
    zep_memory: ZepMemory, zep: ZepDouble
) -> None:
    await zep_memory.add(turn("My pet is a cat"), "Noted.")

    user, thread, messages = zep.calls
    assert (user.method, user.path, user.body) == ("POST", "/users", {"user_id": "alice"})
    uuid = zep.users["alice"]
    assert (thread.path, thread.body) == ("/threads", {"user_uuid": uuid})
    [thread_uuid] = zep.threads
    assert messages.path == f"/threads/{thread_uuid}/messages"
    assert messages.body == {
        "messages": [
            {
                "role": "user",
                "content": "My pet is a cat",
                "reference_time": "2026-05-08T13:56:00.123456Z",
                "metadata": {"session_id": "session-1"},
            },
            {
                "role": "assistant",
                "content": "Noted.",
                "reference_time": "2026-05-08T13:56:00.123456Z",
                "metadata": {"session_id": "session-1"},
            },
        ]
    }
    assert messages.headers["Authorization"] == "Api-Key z-key"
    assert messages.headers["Content-Type"] == "application/json"


async def test_a_search_asks_for_the_only_score_that_is_a_relevance(
    zep_memory: ZepMemory, zep: ZepDouble
) -> None:
    await zep_memory.add(turn("my pet is a cat"), "")

    [found] = await zep_memory.search("alice", "my pet", limit=7)

    search = zep.calls[-1]
    assert search.path == f"/graphs/{zep.users['alice']}/search/episodes"
    assert search.query == {"page_size": "7"}
    assert search.body == {"query": "my pet", "reranker": "cross_encoder"}
    assert "Idempotency-Key" not in search.headers
    assert found.relevance == 1.0


async def test_users_and_threads_are_created_once(zep_memory: ZepMemory, zep: ZepDouble) -> None:
    await zep_memory.add(turn("one"), "")
    await zep_memory.add(turn("two", request="req_2"), "")

    assert len(zep.said("POST", "/users")) == 1
    assert len([call for call in zep.calls if call.path == "/threads"]) == 1


async def test_a_user_zep_knows_already_is_looked_up(zep_memory: ZepMemory, zep: ZepDouble) -> None:
    """As after our database was lost."""
    zep.users["alice"] = "11111111-1111-4111-8111-111111111111"
    zep.episodes[zep.users["alice"]] = []

    await zep_memory.add(turn("one"), "")

    assert [call.path for call in zep.calls[:2]] == ["/users", "/users/lookup"]
    assert list(zep.threads.values()) == ["11111111-1111-4111-8111-111111111111"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=502, body=b"<html>Bad gateway</html>"),
        Fault(status=503),
        Fault(status=504, body=b""),
        Fault(status=429, headers={"Retry-After": "0"}),
        Fault(status=408),
        Fault(cut=True),
        Fault(status=200, body=b"{"),
        Fault(status=200, body=b"[]"),
        Fault(status=201, body=b"{}"),
    ],
    ids=str,
)
async def test_a_write_is_tried_again_after_a_passing_failure(
    zep_memory: ZepMemory, zep: ZepDouble, fault: Fault
) -> None:
    zep.faults.append(fault)

    try:
        await zep_memory.add(turn("cats"), "")
    except Unavailable:
        await zep_memory.add(turn("cats"), "")

    assert [passage.text for passage in await zep_memory.search("alice", "cats", limit=5)] == [
        "cats"
    ]


async def test_an_attempt_that_hangs_is_given_up(zep_memory: ZepMemory, zep: ZepDouble) -> None:
    await zep_memory.add(turn("one"), "")
    zep.faults.append(Fault(hang=True))

    await zep_memory.add(turn("cats", request="req_2"), "")

    assert len(zep.said("POST", "/threads/")) == 3


async def test_a_write_whose_answer_was_lost_is_not_done_twice(
    zep_memory: ZepMemory, zep: ZepDouble
) -> None:
    await zep_memory.add(turn("one"), "")
    zep.faults.append(Fault(cut=True, after=True))

    await zep_memory.add(turn("cats", request="req_2"), "")

    assert len(set(_keys(zep.said("POST", "/threads/")[1:]))) == 1
    assert len(await zep_memory.search("alice", "cats", limit=5)) == 1


async def test_a_turn_that_is_added_again_after_an_outage_is_there_once(
    zep_memory: ZepMemory, zep: ZepDouble
) -> None:
    await zep_memory.add(turn("one"), "")
    zep.faults.extend([Fault(cut=True, after=True)] * 3)
    with pytest.raises(Unavailable):
        await zep_memory.add(turn("cats", request="req_2"), "")

    await zep_memory.add(turn("cats", request="req_2"), "")

    assert len(await zep_memory.search("alice", "cats", limit=5)) == 1


async def test_a_write_gives_up_after_three_attempts(zep_memory: ZepMemory, zep: ZepDouble) -> None:
    zep.faults.extend([Fault()] * 10)

    with pytest.raises(Unavailable):
        await zep_memory.add(turn("cats"), "")

    assert len(zep.calls) == 3


async def test_a_search_is_never_tried_again(zep_memory: ZepMemory, zep: ZepDouble) -> None:
    """It races a deadline of a second; a second attempt would only lose it."""
    await zep_memory.add(turn("cats"), "")
    zep.calls.clear()
    zep.faults.append(Fault())

    with pytest.raises(Unavailable):
        await zep_memory.search("alice", "cats", limit=5)

    assert len(zep.calls) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 413, 422])
async def test_a_refusal_is_not_argued_with(
    zep_memory: ZepMemory, zep: ZepDouble, status: int
) -> None:
    zep.faults.append(
        Fault(status, body=b'{"error": {"code": "no", "message": "x", "request_id": "zr-9"}}')
    )

    with pytest.raises(ZepRefused, match=rf"{status} no \(request zr-9\)"):
        await zep_memory.add(turn("cats"), "")

    assert len(zep.calls) == 1


async def test_a_refusal_says_nothing_of_the_key_or_the_text(
    zep: ZepDouble, migrated_database: Database
) -> None:
    async with aiohttp.ClientSession() as http:
        memory = ZepMemory(migrated_database, ZepApi(http, "wrong-key", base_url=zep.url))

        with pytest.raises(ZepRefused) as refused:
            await memory.add(turn("a secret"), "")

    assert str(refused.value) == "Zep answered 401 unauthorized (request zr-0)"
    assert KEY not in str(refused.value)


async def test_what_was_deleted_in_zep_is_made_anew(zep_memory: ZepMemory, zep: ZepDouble) -> None:
    await zep_memory.add(turn("one"), "")
    zep.users.clear()
    zep.threads.clear()
    zep.episodes.clear()

    with pytest.raises(Unavailable):
        await zep_memory.add(turn("cats", request="req_2"), "")
    await zep_memory.add(turn("cats", request="req_3"), "")

    assert len(await zep_memory.search("alice", "cats", limit=5)) == 1


async def test_deleting_what_zep_lost_is_no_error(
    zep_memory: ZepMemory, zep: ZepDouble, migrated_database: Database
) -> None:
    await zep_memory.add(turn("one"), "")
    zep.threads.clear()

    await zep_memory.forget("alice", "session-1")

    assert await migrated_database.fetch_val("SELECT count(*) FROM zep_threads") == 0


async def test_forgetting_a_user_deletes_the_user_in_zep(
    zep_memory: ZepMemory, zep: ZepDouble, migrated_database: Database
) -> None:
    await zep_memory.add(turn("one"), "")

    await zep_memory.forget("alice")

    assert zep.users == {}
    assert await migrated_database.fetch_val("SELECT count(*) FROM zep_users") == 0
    assert await migrated_database.fetch_val("SELECT count(*) FROM zep_threads") == 0


async def test_a_failed_deletion_can_be_tried_again(zep_memory: ZepMemory, zep: ZepDouble) -> None:
    await zep_memory.add(turn("one"), "")
    zep.faults.extend([Fault()] * 3)
    with pytest.raises(Unavailable):
        await zep_memory.forget("alice", "session-1")

    await zep_memory.forget("alice", "session-1")

    assert zep.threads == {}


@pytest.mark.parametrize(
    "item",
    [
        {},
        None,
        {"content": 1, "role": "user"},
        {"content": "x", "role": "system", "relevance": 0.9},
        {"content": "x", "role": "tool", "relevance": 0.9},
    ],
)
async def test_results_that_nobody_said_are_passed_over(
    zep_memory: ZepMemory, zep: ZepDouble, item: Any
) -> None:
    await zep_memory.add(turn("cats"), "")
    body = b'{"items": [%s]}' % (b"null" if item is None else str(item).replace("'", '"').encode())
    zep.faults.append(Fault(status=200, body=body))

    assert await zep_memory.search("alice", "cats", limit=5) == []


async def test_a_result_without_a_relevance_is_not_relevant(
    zep_memory: ZepMemory, zep: ZepDouble
) -> None:
    """Its score is a rank, which no threshold can be compared with."""
    await zep_memory.add(turn("cats"), "")
    zep.faults.append(
        Fault(status=200, body=b'{"items": [{"content": "x", "role": "user", "score": 0.98}]}')
    )

    [found] = await zep_memory.search("alice", "cats", limit=5)

    assert found.relevance == 0.0


async def test_a_page_is_never_larger_than_zep_gives(zep_memory: ZepMemory, zep: ZepDouble) -> None:
    await zep_memory.add(turn("cats"), "")

    await zep_memory.search("alice", "cats", limit=400)

    assert zep.calls[-1].query == {"page_size": "50"}
