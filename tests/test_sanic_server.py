"""The test server itself: a leak here would be blamed on the code under test."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import aiohttp
import pytest
from sanic import HTTPResponse, Request, Sanic, text

from sanic_server import SanicServer, serve, teach_pytest_sanic

teach_pytest_sanic()


@pytest.fixture(autouse=True)
def _loop(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    yield
    assert asyncio.all_tasks(loop) == set()
    gc.collect()  # An unclosed socket warns when it is collected, and a warning is an error.


async def fetch(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text()


def greeter(name: str = "greeter") -> Sanic:
    app = Sanic(name, configure_logging=False)

    @app.get("/")
    async def hello(_: Request) -> HTTPResponse:
        return text(f"Hello from {name}")

    return app


async def test_an_app_answers_over_a_real_socket():
    async with serve(greeter()) as server:
        answer = await fetch(server.url("/"))

    assert answer == "Hello from greeter"


async def test_two_apps_run_side_by_side():
    async with serve(greeter("one")) as one, serve(greeter("two")) as two:
        answers = [await fetch(one.url("/")), await fetch(two.url("/"))]

    assert answers == ["Hello from one", "Hello from two"]


async def test_the_same_app_can_be_served_again():
    app = greeter()

    answers = []
    for _ in range(2):
        async with serve(app) as server:
            answers.append(await fetch(server.url("/")))

    assert answers == ["Hello from greeter", "Hello from greeter"]


async def test_a_name_is_free_again_after_the_stop():
    async with serve(greeter("same")):
        pass

    async with serve(greeter("same")) as server:
        assert await fetch(server.url("/")) == "Hello from same"


async def test_listeners_run_in_the_order_of_the_real_server():
    order = []
    app = greeter()
    for event in (
        "after_server_stop",
        "before_server_stop",
        "after_server_start",
        "before_server_start",
    ):

        async def note(_: Sanic, event: str = event) -> None:
            order.append(event)

        app.register_listener(note, event)

    async with serve(app):
        pass

    assert order == [
        "before_server_start",
        "after_server_start",
        "before_server_stop",
        "after_server_stop",
    ]


async def test_a_stream_left_open_is_cancelled_and_awaited():
    """Its cleanup has run before the test goes on, also when the client is already gone."""
    started, cleaned = asyncio.Event(), asyncio.Event()
    app = Sanic("streamer", configure_logging=False)

    @app.get("/")
    async def stream(request: Request) -> None:
        response = await request.respond(content_type="text/event-stream")
        await response.send(": hello\n\n")
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    async with aiohttp.ClientSession() as session:
        async with serve(app) as server:
            response = await session.get(server.url("/"))
            await started.wait()
        response.close()

    assert cleaned.is_set()


async def test_the_cleanup_of_a_client_that_already_left_is_awaited():
    """Sanic no longer counts the connection then, but its handler still runs."""
    started, cleaning, cleaned = asyncio.Event(), asyncio.Event(), asyncio.Event()
    app = Sanic("streamer", configure_logging=False)

    @app.get("/")
    async def stream(request: Request) -> None:
        response = await request.respond(content_type="text/event-stream")
        await response.send(": hello\n\n")
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            for _ in range(20):
                await asyncio.sleep(0)
            cleaned.set()

    async with serve(app) as server:
        async with aiohttp.ClientSession() as session, session.get(server.url("/")):
            await started.wait()
        await cleaning.wait()

    assert cleaned.is_set()


async def test_the_client_of_pytest_sanic_reaches_the_app(sanic_client):
    """Whatever the version of pytest-sanic: its client has been aiohttp's and httpx's."""
    app = greeter()
    answered = []
    app.register_middleware(lambda _, response: answered.append(response.body), "response")
    client = await sanic_client(app)

    await client.get("/")

    assert answered == [b"Hello from greeter"]


async def test_a_failing_start_leaves_nothing_behind():
    app = greeter()

    @app.before_server_start
    async def fail(_: Sanic) -> None:
        raise RuntimeError("no database")

    server = SanicServer(app)
    with pytest.raises(RuntimeError, match="no database"):
        await server.start()

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)


async def test_an_app_task_ends_with_the_server():
    ended = asyncio.Event()
    app = greeter()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    @app.after_server_start
    async def start(app: Sanic) -> None:
        app.add_task(work(), name="work")

    async with serve(app) as server:
        await fetch(server.url("/"))

    assert ended.is_set()


async def test_a_connection_that_never_sent_a_request_is_closed():
    async with serve(greeter()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)

    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
