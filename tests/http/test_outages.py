"""Parts that go away while the service runs, and come back: what `docs/operations.md` says of each."""

from __future__ import annotations

from aiohttp import web
from chat_client import ChatClient, events, texts
from key_server import KeyServer, SigningKey
from key_server import serving as serving_keys
from replies import anthropic, refuses
from upstream import Upstream, openai

from tests.services.memory.zep_double import KEY as ZEP_KEY
from tests.services.memory.zep_double import ZepDouble

SESSION = "session-20250819-143022-a1b2"
PING = "/api/v1/auth/ping"
SORRY = "Server error, please try again later."


async def test_known_keys_work_while_the_key_server_is_down(loop, serving):
    """Nobody is logged out; what a key gets that was never fetched is in tests/services/identity."""
    known = SigningKey("known", "ES256")
    server = KeyServer()
    server.publish(known)
    async with serving_keys(server):
        client: ChatClient = await serving({"JWT_JWKS_URL": server.url})
        before = await client.send("GET", PING, headers=signed_by(known))

    during = [await client.send("GET", PING, headers=signed_by(known)) for _ in range(3)]
    answer = await client.ask("hi", headers=signed_by(known))

    assert before.status == 200
    assert [reply.status for reply in during] == [200] * 3
    assert events(answer.body)[-1] == ("done", {"finish_reason": "stop"})


def signed_by(key: SigningKey) -> dict[str, str]:
    return {"Authorization": f"Bearer {key.sign()}"}


async def test_when_a_provider_is_down_the_next_one_answers_until_it_is_back(loop, serving):
    first = Upstream()
    async with first:
        port = int(first.origin.rpartition(":")[2])
    async with Upstream() as second:
        second.plays(anthropic("I am ", "the other."))
        client: ChatClient = await serving(
            {
                "PROVIDERS": "openai,anthropic",
                "OPENAI_API_KEY": "x",
                "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
                "ANTHROPIC_API_KEY": "x",
                "ANTHROPIC_BASE_URL": second.url,
            }
        )

        during = await client.ask("hi")

    nobody = await client.ask("hi")
    assert texts(during.body) == "I am the other."
    assert events(during.body)[-1] == ("done", {"finish_reason": "stop"})
    assert events(nobody.body) == [
        ("token", {"text": SORRY}),
        ("done", {"finish_reason": "error", "code": "SERVER_ERROR"}),
    ]


async def test_a_provider_that_comes_back_answers_the_next_question(loop, serving):
    async with Upstream() as upstream:
        upstream.plays(refuses(503), refuses(503), refuses(503), openai("Back", " again"))
        client: ChatClient = await serving({"OPENAI_API_KEY": "x", "OPENAI_BASE_URL": upstream.url})

        during = await client.ask("hi")
        after = await client.ask("hi")

    assert texts(during.body) == SORRY
    assert len(upstream.requests) == 4
    assert texts(after.body) == "Back again"


async def test_a_wrong_provider_key_is_said_in_the_log(loop, serving, lines):
    """It is not asked for at start, so this line is where an operator finds it."""
    async with Upstream() as upstream:
        upstream.plays(refuses(401))
        client: ChatClient = await serving(
            {"OPENAI_API_KEY": "wrong", "OPENAI_BASE_URL": upstream.url}
        )

        reply = await client.ask("hi")

    [line] = [line for line in lines if line["message"] == "SSE stream error"]
    assert len(upstream.requests) == 1  # no retry makes it right
    assert texts(reply.body) == SORRY
    assert events(reply.body)[-1] == ("done", {"finish_reason": "error", "code": "SERVER_ERROR"})
    assert line["status"] == 401
    assert "wrong" not in str(line)


async def test_without_zep_answers_go_on_and_what_was_said_reaches_it_later(loop, serving, lines):
    zep = ZepDouble()
    runner, port = await zep_at(zep, 0)
    url = f"http://127.0.0.1:{port}/api/v4"
    client: ChatClient = await serving({"ZEP_API_KEY": ZEP_KEY, "ZEP_BASE_URL": url})
    await client.ask("My dog is called Bob", sessionId=SESSION)
    await client.services.archive.settled()
    await runner.cleanup()

    during = await client.ask("My cat is called Ada", sessionId=SESSION, useMemory=True)
    runner, _ = await zep_at(zep, port)
    await client.services.archive.settled()
    await runner.cleanup()

    [recalled] = [line for line in lines if line["message"] == "Memory retrieval completed"]
    [episodes] = zep.episodes.values()
    said = [episode["content"] for episode in episodes]
    assert events(during.body)[-1] == ("done", {"finish_reason": "stop"})
    assert recalled["degraded"] is True
    assert said.count("My cat is called Ada") == 1


async def zep_at(zep: ZepDouble, port: int) -> tuple[web.AppRunner, int]:
    """*zep* served at *port*, and which one that is."""
    app = web.Application()
    app.router.add_route("*", "/api/v4/{path:.*}", zep._handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    return runner, runner.addresses[0][1]
