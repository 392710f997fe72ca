"""JavaScript clients, run by Node: the reader that the docs show, and the one that people write first."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from patience import PATIENCE
from scripted_provider import STOP, USAGE, ScriptedProvider

from blueprints.context import ChatApp
from sanic_server import SanicServer, serve
from services.events import TextDelta

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "troubleshooting.md"
NODE = shutil.which("node")
NASTY = ['say "hi"\n\ndata: {}\n\n', "emoji 👩‍👩‍👧, é, \u2028", "\r\n: heartbeat", "end"]
DONE = {"finish_reason": "stop"}

Starting: TypeAlias = Callable[..., Awaitable[SanicServer]]


@pytest.fixture(autouse=True)
def _node() -> None:
    if NODE is None and os.environ.get("CI") != "true":
        pytest.skip("node is not installed")


@pytest.fixture
async def starting(loop: Any, make_app: Callable[..., ChatApp]) -> AsyncIterator[Starting]:
    """Starts the service with a provider; heartbeats come often."""
    async with AsyncExitStack() as stack:

        async def start(provider: ScriptedProvider) -> SanicServer:
            app = make_app({"OPENAI_SSE_HEARTBEAT_MS": "50"}, provider=provider)
            return await stack.enter_async_context(serve(app))

        yield start


@pytest.fixture
def reader(tmp_path: Path) -> str:
    """The reader of the docs, as a module."""
    (code,) = re.findall(r"^```js\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    module = tmp_path / "ask.mjs"
    module.write_text(code, "utf-8")
    return module.as_uri()


async def node(script: str, *arguments: str) -> Any:
    """What *script* prints, as JSON."""
    assert NODE is not None
    process = await asyncio.create_subprocess_exec(
        NODE, str(HERE / script), *arguments, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE):
        printed, _ = await process.communicate()
    return json.loads(printed)


def chat(port: int) -> str:
    return f"http://127.0.0.1:{port}/api/v1/chat"


@asynccontextmanager
async def torn(port: int, size: int, *, until: bytes | None = None) -> AsyncIterator[int]:
    """A port that leads to *port*, and sends what comes back in pieces of *size* bytes.

    Behind *until* it closes the connection, as if the answer had ended there.
    """
    tasks: set[asyncio.Task[Any]] = set()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        upstream, sending = await asyncio.open_connection("127.0.0.1", port)
        try:
            sending.write(await reader.readuntil(b"}"))
            head = await upstream.readuntil(b"\r\n\r\n")
            # Its end is the connection's end: chunks would say where pieces belong.
            writer.write(re.sub(rb"transfer-encoding[^\n]*\n", b"connection: close\r\n", head))
            passed = b""
            while data := await _chunk(upstream):
                for start in range(0, len(data), size):
                    writer.write(data[start : start + size])
                    await writer.drain()
                    await asyncio.sleep(0)
                passed += data
                if until is not None and until in passed:
                    break
        finally:
            sending.transport.abort()
            writer.close()

    proxy = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    async with proxy:
        yield proxy.sockets[0].getsockname()[1]
        await asyncio.gather(*tasks)


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await reader.readline(), 16)
    return (await reader.readexactly(size + 2))[:size]


@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
async def test_the_documented_reader_gets_every_event_however_the_bytes_come(
    starting: Starting, reader: str, token: str, size: int
):
    words = ScriptedProvider(*[(TextDelta(text),) for text in NASTY], (USAGE, STOP))
    server = await starting(words)

    async with torn(server.port, size) as port:
        told = await node("reader.mjs", reader, chat(port), token, '{"message":"hi"}')

    assert [data["text"] for name, data in told["events"] if name == "token"] == NASTY
    assert [name for name, _ in told["events"][-2:]] == ["usage", "done"]
    assert told["done"] == DONE


async def test_the_documented_reader_passes_over_heartbeats(
    starting: Starting, reader: str, token: str
):
    go_on = asyncio.Event()
    provider = ScriptedProvider((TextDelta("a"),), go_on, (TextDelta("b"), STOP))
    server = await starting(provider)

    async def go_on_after_heartbeats() -> None:
        await provider.started.wait()
        await asyncio.sleep(0.3)
        go_on.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(go_on_after_heartbeats())
        told = await node("reader.mjs", reader, chat(server.port), token, '{"message":"hi"}')

    assert [name for name, _ in told["events"]] == ["token", "token", "usage", "done"]


async def test_the_documented_reader_tells_a_cut_from_an_end(
    starting: Starting, reader: str, token: str
):
    server = await starting(ScriptedProvider((TextDelta("a"),), None))

    async with torn(server.port, 100, until=b'"a"') as port:
        told = await node("reader.mjs", reader, chat(port), token, '{"message":"hi"}')

    assert told == {
        "events": [["token", {"text": "a"}]],
        "error": "cut: the stream ended without done",
    }


async def test_the_documented_reader_names_the_code_of_a_refusal(
    starting: Starting, reader: str, token: str
):
    server = await starting(ScriptedProvider(None))

    told = await node("reader.mjs", reader, chat(server.port), token, '{"message":""}')

    assert told == {"events": [], "error": "VALIDATION_ERROR"}


async def test_giving_up_in_the_documented_reader_closes_the_provider(
    starting: Starting, reader: str, token: str
):
    provider = ScriptedProvider((TextDelta("a"),), (TextDelta("b"),), None)
    server = await starting(provider)

    told = await node("reader.mjs", reader, chat(server.port), token, '{"message":"hi"}', "2")

    assert told["error"] == "gave up"
    async with asyncio.timeout(PATIENCE):
        await provider.closed.wait()


async def test_a_client_that_takes_reads_for_whole_lines_gets_whole_events(
    starting: Starting, token: str
):
    """No event is spread over two writes, and none has a line end in it."""
    words = [(TextDelta(f"{number} {text}"),) for number in range(25) for text in NASTY]
    server = await starting(ScriptedProvider(*words, (USAGE, STOP)))

    found = await node("by_chunk.mjs", chat(server.port), token, '{"message":"hi"}')

    assert [data["text"] for data in found[:-2]] == [event.text for (event,) in words]
    assert found[-1] == DONE
