"""The list is the order: requests go down it, answers and events come back up."""

from __future__ import annotations

import asyncio

import pytest
from sample_plugins import LosesItsTask, diary
from small_app import built_in, client_of, offers, small_app

from middleware import event_hooks, load
from sanic_server import SanicServer, serve

SAMPLES = offers(
    first="sample_plugins:First",
    second="sample_plugins:Second",
    third="sample_plugins:Third",
    doorkeeper="sample_plugins:Doorkeeper",
    answers_with_a_dict="sample_plugins:AnswersWithADict",
    awaits_what_is_cancelled="sample_plugins:AwaitsWhatIsCancelled",
    raises_on_request="sample_plugins:RaisesOnRequest",
    raises_on_response="sample_plugins:RaisesOnResponse",
    fails_to_open="sample_plugins:FailsToOpen",
    owns_a_task_group="sample_plugins:OwnsATaskGroup",
    loses_its_task="sample_plugins:LosesItsTask",
    configured="sample_plugins:Configured",
)


@pytest.fixture(autouse=True)
def _empty_diary():
    diary.clear()


async def test_requests_go_down_the_list_and_answers_come_back_up():
    app = small_app(load(["first", "second", "third"], {}, SAMPLES))

    async with client_of(app) as client:
        await client.get("/open")

    assert diary == [
        "First opens",
        "Second opens",
        "Third opens",
        "First sees the request",
        "Second sees the request",
        "Third sees the request",
        "Third sees 200",
        "Second sees 200",
        "First sees 200",
        "Third closes",
        "Second closes",
        "First closes",
    ]


async def test_the_setting_decides_the_order_and_what_is_active():
    app = small_app(load(["third", "first"], {}, SAMPLES))

    async with client_of(app) as client:
        await client.get("/open")

    assert diary[2:6] == [
        "Third sees the request",
        "First sees the request",
        "First sees 200",
        "Third sees 200",
    ]


def test_events_come_back_up_the_list():
    hooks = event_hooks(load(["first", "second", "doorkeeper", "third"], {}, SAMPLES))

    events = ["event"]
    for hook in hooks:
        events = [out for event in events for out in hook(None, event)]

    assert events == ["event Third Second First"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("DELETE", "/open", 405),
        ("GET", "/broken", 500),
        ("POST", "/api/v1/chat", 200),
    ],
)
async def test_every_kind_of_answer_passes_every_plugin_once(method, path, status):
    app = small_app(load(["first", "second"], {}, SAMPLES))
    app.ctx.may_end.set()

    async with client_of(app) as client:
        answer = await client.send(method, path)

    assert answer.status == status
    assert diary[2:6] == [
        "First sees the request",
        "Second sees the request",
        f"Second sees {status}",
        f"First sees {status}",
    ]


async def test_a_request_that_is_not_http_passes_every_plugin_too():
    app = small_app(load(["first", "second"], {}, SAMPLES))

    async with client_of(app) as client:
        answer = await client.send_raw(b"NONSENSE\r\n\r\n")

    assert answer.startswith("HTTP/1.1 400 ")
    assert diary[2:6] == [
        "First sees the request",
        "Second sees the request",
        "Second sees 400",
        "First sees 400",
    ]


async def test_an_answer_from_a_plugin_goes_no_further_down_but_all_the_way_up():
    app = small_app(load(["first", "doorkeeper", "second"], {}, SAMPLES))

    async with client_of(app) as client:
        answer = await client.get("/open")

    assert (answer.status, answer.body) == (418, "Go away.")
    assert diary[2:5] == ["First sees the request", "Second sees 418", "First sees 418"]


async def test_a_request_hook_that_raises_is_an_error_answer():
    app = small_app(load(["first", "raises_on_request", "second"], {}, SAMPLES))

    async with client_of(app) as client:
        answer = await client.get("/open")

    assert (answer.status, answer.body) == (500, '{"code":"LookupError"}')
    assert diary[2:5] == ["First sees the request", "Second sees 500", "First sees 500"]


async def test_what_is_no_response_is_an_error():
    """The hooks on the way up got it, and each failed; the answer had no header of theirs."""
    app = small_app(load(["first", "answers_with_a_dict"], {}, SAMPLES))

    async with client_of(app) as client:
        answer = await client.get("/open")

    assert (answer.status, answer.body) == (500, '{"code":"TypeError"}')
    assert diary[1:3] == ["First sees the request", "First sees 500"]


async def test_a_cancellation_of_what_a_hook_awaits_is_an_error_answer():
    """As of a lookup that several requests share. The connection was closed without a word."""
    app = small_app(load(["first", "awaits_what_is_cancelled"], {}, SAMPLES))

    async with client_of(app) as client:
        answer = await client.get("/open")

    assert (answer.status, answer.body) == (500, '{"code":"RuntimeError"}')


async def test_a_response_hook_that_raises_costs_its_own_headers_only(lines):
    names = ["configured", "first", "raises_on_response"]
    app = small_app(load(names, {}, SAMPLES))

    async with client_of(app) as client:
        answer = await client.get("/open")

    assert (answer.status, answer.body) == (200, "open")
    assert answer.headers["x-greeting"] == "Hello"
    assert "First sees 200" in diary
    (line,) = [line for line in lines if line["message"] == "Middleware hook failed"]
    assert line["extra"] == {"plugin": "raises_on_response", "hook": "on_response"}
    assert line["exception"].type is LookupError


async def test_options_reach_the_running_plugin():
    app = small_app(load(["configured"], {"MIDDLEWARE_CONFIGURED_GREETING": "Salve"}, SAMPLES))

    async with client_of(app) as client:
        answer = await client.get("/open")

    assert answer.headers["x-greeting"] == "Salve"


async def test_a_lifespan_that_fails_stops_the_start_and_closes_those_before_it():
    server = SanicServer(small_app(load(["first", "fails_to_open", "second"], {}, SAMPLES)))

    with pytest.raises(ConnectionError, match="its server is down"):
        await server.start()

    assert diary == ["First opens", "First closes"]


async def test_a_lifespan_may_span_a_task_group():
    """It must be left by the task that entered it, and Sanic's listeners each have their own."""
    async with serve(small_app(load(["owns_a_task_group"], {}, SAMPLES))):
        assert diary == []

    assert diary == ["task group left"]


async def test_a_plugin_that_loses_its_background_task_is_heard_of_at_once(lines, loop):
    LosesItsTask.fail = asyncio.Event()
    server = SanicServer(small_app(load(["loses_its_task"], {}, SAMPLES)))
    await server.start()

    LosesItsTask.fail.set()
    (lifespans,) = (t for t in asyncio.all_tasks(loop) if t.get_name() == "middleware lifespans")
    await asyncio.wait([lifespans])

    with pytest.raises(ExceptionGroup):
        await server.stop()
    assert [line["message"] for line in lines if line["level"].name == "CRITICAL"] == [
        "Middleware lifespan failed"
    ]


async def test_without_plugins_the_app_has_no_middleware():
    app = small_app([])

    assert (len(app.request_middleware), len(app.response_middleware)) == (0, 0)
    async with client_of(app) as client:
        assert (await client.get("/open")).status == 200


async def test_all_built_in_plugins_work_together():
    names = ["request_id", "access_log", "cors", "auth", "limits", "fault_injection"]
    app = small_app(built_in(*names))

    async with client_of(app) as client:
        answer = await client.get("/closed", {"x-request-id": "mine"})

    assert answer.status == 401
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
