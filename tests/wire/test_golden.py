"""Golden transcripts: what is on the wire, byte for byte.

`RECORD_GOLDEN=1 pytest tests/wire` writes down what the service says now; read the diff.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from scripted_provider import STOP, USAGE, ScriptedProvider
from transcript import Connection, Exchange, normalised, parse

from sanic_server import SanicServer
from services.events import TextDelta
from services.providers.faults import SCENARIOS, FaultInjection
from services.providers.scripted import Stub

GOLDEN = Path(__file__).parent / "golden"
RECORD = os.environ.get("RECORD_GOLDEN") == "1"
# As long as one that an ES256 key made, for which nobody is asked here.
KEYED = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsiLCJ0eXAiOiJKV1QifQ.eyJzdWIiOiJ1In0.c2ln"

Responses: TypeAlias = list[bytes]
Play: TypeAlias = Callable[[SanicServer, list[str], Any], Awaitable[Responses]]


async def in_turn(server: SanicServer, requests: list[str], parts: Any) -> Responses:
    """One request after the other, each when everything about the one before is written."""
    responses: Responses = []
    for request in requests:
        connection = await Connection.sending(server.port, _with_id(request, responses))
        responses.append(await connection.response())
        services = server.app.ctx.services
        await services.streams.idle()
        await services.archive.settled()
    return responses


async def stopping(server: SanicServer, requests: list[str], parts: Any) -> Responses:
    """The second request while the first one's answer is being written."""
    ask, stop = requests
    asking = await Connection.sending(server.port, ask)
    begun = await asking.until(b"event: token")
    stopping = await Connection.sending(server.port, _with_id(stop, [begun]))
    stopped = await stopping.response()
    return [await asking.response(), stopped]


async def after_a_heartbeat(server: SanicServer, requests: list[str], parts: Any) -> Responses:
    """The answer goes on once a heartbeat has come."""
    asking = await Connection.sending(server.port, requests[0])
    await asking.until(b": heartbeat ")
    parts["provider"].steps[0].set()
    return [await asking.response()]


async def beside_another(server: SanicServer, requests: list[str], parts: Any) -> Responses:
    """The second request while the first one's answer is being written; only it is recorded."""
    first = await Connection.sending(server.port, requests[0])
    await first.until(b"Connected")
    responses = await in_turn_without_waiting(server, requests[1:])
    parts["provider"].steps[0].set()
    return [await first.response(), *responses]


async def in_turn_without_waiting(server: SanicServer, requests: list[str]) -> Responses:
    return [await (await Connection.sending(server.port, each)).response() for each in requests]


async def while_draining(server: SanicServer, requests: list[str], parts: Any) -> Responses:
    await server.app.ctx.services.streams.drain(0)
    return await in_turn_without_waiting(server, requests)


@dataclass(frozen=True, slots=True)
class Scene:
    """How a transcript comes about: variables, parts of the service, and what is done when."""

    variables: Mapping[str, str] = field(default_factory=dict)
    parts: Callable[[], dict[str, Any]] = dict
    play: Play = in_turn


def hurried() -> dict[str, Any]:
    """The two scenarios that take their time, without it."""
    return {"provider": FaultInjection(Stub(), first_token_delay=0.001, story_duration=0.001)}


def waiting() -> dict[str, Any]:
    return {"provider": ScriptedProvider(asyncio.Event(), (TextDelta("Hello."), USAGE, STOP))}


SCENES = {
    "heartbeat": Scene({"OPENAI_SSE_HEARTBEAT_MS": "2000"}, waiting, after_a_heartbeat),
    "stopped": Scene(
        parts=lambda: {"provider": ScriptedProvider((TextDelta("Once upon "),), None)},
        play=stopping,
    ),
    "scenario-slow_first_token": Scene(parts=hurried),
    "scenario-long_story": Scene(parts=hurried),
    "error-429-requests": Scene({"LIMIT_REQUESTS_PER_MINUTE": "1"}),
    "error-429-streams": Scene({"LIMIT_USER_STREAMS": "1"}, waiting, beside_another),
    "error-429-budget": Scene({"LIMIT_DAILY_BUDGET_USD": "0.001156"}),  # a word
    "error-503-overloaded": Scene({"LIMIT_PROCESS_STREAMS": "1"}, waiting, beside_another),
    "error-503-draining": Scene(play=while_draining),
    "error-503-keys": Scene({"JWT_JWKS_URL": "http://127.0.0.1:9/keys.json"}),
    "error-408": Scene({"REQUEST_TIMEOUT_MS": "100"}),
    "cors-list": Scene({"CORS_ORIGINS": "https://app.example.com,https://admin.example.com"}),
}


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.txt")), ids=lambda path: path.stem)
async def test_the_wire_is_as_recorded(starting, token: str, path: Path):
    scene = SCENES.get(path.stem, Scene())
    exchanges = parse(_recorded(path))
    requests = [
        exchange.request.replace("<token>", token).replace("<ES256 token>", KEYED)
        for exchange in exchanges
    ]
    parts = scene.parts()
    server = await starting(dict(scene.variables), **parts)
    await _tokenizer_loaded()

    responses = await scene.play(server, requests, parts)

    heard = b"".join(
        Exchange(exchange.request, normalised(response)).text()
        for exchange, response in zip(exchanges, responses, strict=True)
    )
    if RECORD:
        _record(path, heard)
    assert heard == _recorded(path)


def test_every_scenario_is_recorded():
    recorded = {path.stem.removeprefix("scenario-") for path in GOLDEN.glob("scenario-*.txt")}

    assert recorded == set(SCENARIOS)


def test_every_scene_is_played():
    assert SCENES.keys() <= {path.stem for path in GOLDEN.glob("*.txt")}


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.txt")), ids=lambda path: path.stem)
def test_a_recorded_stream_is_a_first_comment_then_frames_then_one_done(path: Path):
    for body in streams(path.read_bytes()):
        begun, *frames, last, rest = body.split(b"\n\n")
        assert begun.removeprefix(b"retry: 3000\n") == b": Connected to chat stream"
        assert last.startswith(b"event: done\ndata: {")
        assert rest in (b"", b"\n")
        for frame in frames:
            assert re.fullmatch(
                rb"(: heartbeat <epoch ms>|event: (token|usage)\ndata: \{[ -~]+\}(\nid: \d+)?)",
                frame,
            )


def streams(text: bytes) -> Iterator[bytes]:
    """The bodies of all event streams in a file."""
    for exchange in parse(text):
        head, _, body = exchange.response.partition(b"<\n")
        if b"text/event-stream" in head and body.strip():
            yield body


def _recorded(path: Path) -> bytes:
    return path.read_bytes()


def _record(path: Path, heard: bytes) -> None:
    path.write_bytes(heard)


def _with_id(request: str, responses: Responses) -> str:
    """*request* with the id of the stream that an earlier response named."""
    found = [
        each[1] for got in responses for each in [re.search(rb"x-stream-id: (\S+)", got)] if each
    ]
    return request.replace("<stream id>", found[-1].decode()) if found else request


async def _tokenizer_loaded() -> None:
    """Estimates are exact only then."""
    for task in asyncio.all_tasks():
        if task.get_name() == "tokenizer":
            await task
