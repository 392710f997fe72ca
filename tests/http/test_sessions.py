"""Conversations over HTTP: stored, remembered, listed, erased, and strictly the caller's own."""

from __future__ import annotations

import asyncio

import pytest
from chat_client import ChatClient, texts
from scripted_provider import STOP, ScriptedProvider, says

from services.events import TextDelta, Usage
from settings import Settings
from settings.development import development_token

SESSION = "session-20250819-143022-a1b2"
OTHER = "session-20250820-090000-zz99"


@pytest.fixture
def stranger() -> dict[str, str]:
    return {"Authorization": f"Bearer {development_token(Settings(), user_id='somebody-else')}"}


async def settled(client: ChatClient) -> None:
    await client.services.streams.idle()
    await client.services.archive.settled()


async def test_the_next_prompt_has_the_sessions_earlier_turns(serving):
    provider = says("Nice to meet you, Ada.")
    client = await serving(provider=provider)

    await client.ask("My name is Ada.", sessionId=SESSION)
    await client.ask("What is my name?", sessionId=SESSION)

    said = [(message.role, message.content) for message in provider.asked[1].messages]
    assert said == [
        ("user", "My name is Ada."),
        ("assistant", "Nice to meet you, Ada."),
        ("user", "What is my name?"),
    ]


async def test_a_session_goes_on_after_an_answer_that_took_much_reasoning(serving):
    """Providers bill what a model thinks as output; none of it is in a later prompt."""
    billed = Usage(tokens_in=5, tokens_out=2_100, model="o4-mini")
    provider = ScriptedProvider((TextDelta("391"),), (billed, STOP))
    client = await serving(provider=provider)

    await client.ask("What is 17 times 23?", sessionId=SESSION)
    await client.ask("And half of it?", sessionId=SESSION)

    said = [message.content for message in provider.asked[1].messages]
    assert said == ["What is 17 times 23?", "391", "And half of it?"]


async def test_what_was_just_said_can_be_read_at_once(serving):
    """A client lists its messages right after `done`; rows wait a moment for others."""
    client = await serving(provider=says("Noted."))

    for number in range(5):
        await client.ask(f"question {number}", sessionId=SESSION)
        listed = (await client.send("GET", f"/api/v1/sessions/{SESSION}/messages")).json
        sessions = (await client.send("GET", "/api/v1/sessions")).json["sessions"]

        assert listed["messages"][1]["content"] == f"question {number}"
        assert sessions[0]["messages"] == 2 * number + 2


async def test_memory_brings_what_was_said_in_another_session(serving):
    provider = says("Noted.")
    client = await serving(provider=provider)
    await client.ask("My dog Biscuit is afraid of thunderstorms.", sessionId=SESSION)
    await settled(client)

    await client.ask("What is my dog Biscuit afraid of?", sessionId=OTHER, useMemory=True)

    assert "thunderstorms" in provider.asked[1].system


async def test_nobody_is_reminded_of_what_somebody_else_said(serving, stranger):
    provider = says("Noted.")
    client = await serving(provider=provider)
    await client.ask("My dog Biscuit is afraid of thunderstorms.", sessionId=SESSION)
    await settled(client)

    await client.ask(
        "What is my dog Biscuit afraid of?", sessionId=SESSION, useMemory=True, headers=stranger
    )

    asked = provider.asked[1]
    assert "thunderstorms" not in asked.system
    assert [message.content for message in asked.messages] == ["What is my dog Biscuit afraid of?"]


async def test_sessions_and_messages_are_listed_newest_first_in_pages(serving):
    client = await serving(provider=says("Yes."))
    for number in range(3):
        await client.ask(f"message {number}", sessionId=SESSION)
        await settled(client)
    await client.ask("elsewhere", sessionId=OTHER)
    await settled(client)

    listed = (await client.send("GET", "/api/v1/sessions")).json
    first = (await client.send("GET", f"/api/v1/sessions/{SESSION}/messages?limit=4")).json
    cursor = first["next_cursor"]
    rest = (
        await client.send("GET", f"/api/v1/sessions/{SESSION}/messages?limit=4&cursor={cursor}")
    ).json

    assert [session["session_id"] for session in listed["sessions"]] == [OTHER, SESSION]
    assert [session["messages"] for session in listed["sessions"]] == [2, 6]
    assert [m["content"] for m in first["messages"]] == ["Yes.", "message 2", "Yes.", "message 1"]
    assert [m["content"] for m in rest["messages"]] == ["Yes.", "message 0"]
    assert rest["next_cursor"] is None


async def test_an_aborted_answer_is_stored_as_far_as_it_came(serving):
    client = await serving(provider=ScriptedProvider((TextDelta("Half an ans"),), None))

    async with client.stream("Tell me", sessionId=SESSION) as stream:
        await stream.next()
        await stream.next()
    await settled(client)

    listed = (await client.send("GET", f"/api/v1/sessions/{SESSION}/messages")).json
    assert [(m["role"], m["content"]) for m in listed["messages"]] == [
        ("assistant", "Half an ans"),
        ("user", "Tell me"),
    ]
    assert listed["messages"][0]["finish_reason"] == "aborted"


async def test_a_stranger_sees_and_erases_nothing(serving, stranger):
    client = await serving(provider=says("Yes."))
    await client.ask("mine", sessionId=SESSION)
    await settled(client)
    path = f"/api/v1/sessions/{SESSION}"

    listed = await client.send("GET", "/api/v1/sessions", headers=stranger)
    read = await client.send("GET", f"{path}/messages", headers=stranger)
    erased = await client.send("DELETE", path, headers=stranger)

    assert listed.json["sessions"] == []
    assert (read.status, erased.status) == (404, 404)
    assert (await client.send("GET", f"{path}/messages")).status == 200


async def test_an_erased_session_is_gone_and_forgotten(serving):
    provider = says("Noted.")
    client = await serving(provider=provider)
    await client.ask("My dog Biscuit is afraid of thunderstorms.", sessionId=SESSION)
    await settled(client)

    erased = await client.send("DELETE", f"/api/v1/sessions/{SESSION}")
    again = await client.send("DELETE", f"/api/v1/sessions/{SESSION}")
    await client.ask("What is my dog Biscuit afraid of?", sessionId=OTHER, useMemory=True)

    assert (erased.status, erased.body, again.status) == (204, b"", 404)
    assert "thunderstorms" not in provider.asked[-1].system


async def test_erasing_memory_erases_every_session(serving):
    client = await serving(provider=says("Noted."))
    for session in (SESSION, OTHER):
        await client.ask("My dog Biscuit is afraid of thunderstorms.", sessionId=session)
    await settled(client)

    erased = await client.send("DELETE", "/api/v1/memory")

    assert erased.status == 204
    assert (await client.send("GET", "/api/v1/sessions")).json["sessions"] == []


@pytest.mark.parametrize("path", [f"sessions/{SESSION}", "memory"])
@pytest.mark.parametrize("resumable", [False, True])
async def test_what_is_being_answered_when_its_session_is_erased_is_not_kept(
    serving, path, resumable
):
    """Nothing that was said before an erasure is there after it, whenever its answer ends."""
    go_on = asyncio.Event()
    provider = ScriptedProvider((TextDelta("Poor "),), go_on, (TextDelta("Biscuit."),), (STOP,))
    client = await serving(provider=provider)
    said = {"sessionId": SESSION, "resumable": resumable}

    async with client.stream("My dog Biscuit is afraid of thunder.", **said) as stream:
        await stream.next_event()
        erased = await client.send("DELETE", f"/api/v1/{path}")
        go_on.set()
        rest = await stream.rest()
    await settled(client)

    assert erased.status == 204
    assert texts(rest) == "Biscuit."
    assert (await client.send("GET", "/api/v1/sessions")).json["sessions"] == []
    assert list(await client.services.archive.search("test-user-id", "Biscuit", limit=9)) == []


async def test_what_is_being_answered_elsewhere_and_what_is_said_later_is_kept(serving, stranger):
    go_on = asyncio.Event()
    provider = ScriptedProvider((TextDelta("Yes"),), go_on, (STOP,))
    client = await serving(provider=provider)

    async with (
        client.stream("theirs", sessionId=SESSION, headers=stranger) as theirs,
        client.stream("elsewhere", sessionId=OTHER) as elsewhere,
    ):
        await theirs.next_event()
        await elsewhere.next_event()
        assert (await client.send("DELETE", f"/api/v1/sessions/{SESSION}")).status == 404
        go_on.set()
        await theirs.rest()
        await elsewhere.rest()
    await client.ask("later", sessionId=SESSION)
    await settled(client)

    mine = (await client.send("GET", "/api/v1/sessions")).json["sessions"]
    assert {session["session_id"] for session in mine} == {SESSION, OTHER}
    assert (await client.send("GET", "/api/v1/sessions", headers=stranger)).json["sessions"]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "cursor=nonsense", "limit=-1", "limit=%D9%A1"]
)
async def test_a_bad_page_is_400(client: ChatClient, query):
    reply = await client.send("GET", f"/api/v1/sessions?{query}")

    assert reply.status == 400
    assert reply.error["code"] == "VALIDATION_ERROR"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/sessions"),
        ("GET", f"/api/v1/sessions/{SESSION}/messages"),
        ("DELETE", f"/api/v1/sessions/{SESSION}"),
        ("DELETE", "/api/v1/memory"),
    ],
)
async def test_every_route_wants_a_token(client: ChatClient, method, path):
    reply = await client.send(method, path, headers={"Authorization": "Bearer nonsense"})

    assert reply.status == 401
