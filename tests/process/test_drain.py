"""SIGTERM: nobody new, everybody finishes or is told, everything is written, exit 0."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import threading
from contextlib import closing, contextmanager
from datetime import datetime, timedelta

import httpx
import pytest
from patience import PATIENCE, await_true
from process_service import Service, started

CHAT = "/api/v1/chat"
STORY = {"message": "Tell me a long story"}
LASTING = STORY | {"resumable": True}  # until it is stopped
NO_HURRY = {"DRAIN_TIMEOUT_MS": "600000"}
SENTENCE = "Server error, please try again later."


class Reading(list[bytes]):
    """The parts of a body, as they come; `stream_id` is what can stop it."""

    stream_id: str


@contextmanager
def reading(service: Service, bearer: dict[str, str], body: dict = STORY, **headers: str):
    """A stream whose body is collected by a thread, from its first bytes to its end."""
    parts = Reading()
    begun = threading.Event()

    def read() -> None:
        with httpx.stream(
            "POST", service.url(CHAT), json=body, headers=bearer | headers, timeout=PATIENCE
        ) as response:
            parts.stream_id = response.headers.get("x-stream-id", "")
            for part in response.iter_raw():
                parts.append(part)
                begun.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert begun.wait(PATIENCE)
    try:
        yield parts
    finally:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def ends_once(parts: list[bytes]) -> bytes:
    """The last frame of a stream that has exactly one `done`."""
    body = b"".join(parts)
    assert body.count(b"event: done") == 1
    return body.split(b"\n\n")[-2]


def test_streams_that_do_not_finish_in_time_are_told_and_the_process_exits_0(tmp_path, bearer):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        variables = {
            "DRAIN_TIMEOUT_MS": "500",
            "OPENAI_API_KEY": "x",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/v1",
            "OPENAI_FIRST_TOKEN_TIMEOUT_MS": "600000",
        }
        with (
            started(tmp_path, variables) as service,
            reading(service, bearer, **{"X-Test-Scenario": "long_story"}) as story,
            reading(service, bearer) as waiting,
        ):
            status = service.stop()
            output = service.output

    assert status == 0
    for parts in (story, waiting):
        assert (
            ends_once(parts)
            == b'event: done\ndata: {"finish_reason":"error","code":"SERVER_ERROR"}'
        )
        assert SENTENCE.encode() in b"".join(parts)
    assert output.count("Chat completion finished") == 2


def test_a_stream_that_finishes_in_time_is_not_disturbed(tmp_path, bearer):
    """Nor does anybody wait longer than for its end."""
    with started(tmp_path, NO_HURRY) as service:
        headers = {"X-Test-Scenario": "slow_first_token"}
        with reading(service, bearer, {"message": "hi"}, **headers) as parts:
            service.process.send_signal(signal.SIGTERM)
        status = service.wait()

    assert status == 0
    assert ends_once(parts) == b'event: done\ndata: {"finish_reason":"stop"}'


def test_while_draining_nobody_new_is_served(tmp_path, bearer):
    with started(tmp_path, NO_HURRY) as service:
        with reading(service, bearer, LASTING) as parts:
            service.process.send_signal(signal.SIGTERM)
            ping = _refusal(service)
            chat = service.request("POST", CHAT, json=STORY, headers=bearer)
            _stop(service, bearer, parts)
        status = service.wait()

    assert ping.json()["error"]["code"] == "DRAINING"
    assert int(ping.headers["retry-after"]) >= 1
    assert chat.status_code == 503
    assert int(chat.headers["retry-after"]) >= 1
    assert status == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_second_signal_changes_nothing(tmp_path, bearer, second):
    """A terminal that closes sends SIGHUP, which once cut what was still being answered."""
    with started(tmp_path, NO_HURRY) as service:
        with reading(service, bearer, LASTING) as parts:
            service.process.send_signal(signal.SIGTERM)
            _refusal(service)
            service.process.send_signal(second)
            seen = len(parts)
            await_true(lambda: len(parts) > seen + 5)
            _stop(service, bearer, parts)
        status = service.wait()

    assert status == 0
    assert b'"aborted"' in ends_once(parts)
    assert "Traceback" not in service.output


def test_nohup_keeps_it_from_ending_with_its_terminal(tmp_path):
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as the child inherits it
    try:
        with started(tmp_path) as service:
            service.process.send_signal(signal.SIGHUP)
            service.await_health()
            assert service.stop() == 0
    finally:
        signal.signal(signal.SIGHUP, ignored)


def test_queues_of_a_locked_database_give_up_at_one_time(tmp_path, bearer):
    """One after the other they took longer than any platform waits before it kills."""
    with (
        started(tmp_path) as service,
        closing(sqlite3.connect(tmp_path / "chat.db", isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        asked = service.request(
            "POST", CHAT, json={"message": "hi", "resumable": True}, headers=bearer
        )
        status = service.stop()
        lines = [json.loads(line) for line in service.log.read_text().splitlines()]

    at = {line["message"]: datetime.fromisoformat(line["time"]) for line in lines}
    gave_up = [
        at[f"{lost} dropped"]
        for lost in (
            "Telemetry rows",
            "Turns of conversations",
            "Turns to remember",
            "Archived streams",
        )
    ]
    assert asked.status_code == 200
    assert status == 0
    assert max(gave_up) - min(gave_up) < timedelta(seconds=4)


def test_an_idle_process_stops_at_once(tmp_path):
    with started(tmp_path, NO_HURRY) as service:
        assert service.stop() == 0


def _refusal(service: Service) -> httpx.Response:
    """The first answer to the ping that is a 503."""
    answers: list[httpx.Response] = []

    def refused() -> bool:
        answers.append(service.request("GET", "/api/v1/auth/ping"))
        return answers[-1].status_code == 503

    await_true(refused)
    return answers[-1]


def _stop(service: Service, bearer: dict[str, str], parts: Reading) -> None:
    path = f"{CHAT}/{parts.stream_id}"
    assert service.request("DELETE", path, headers=bearer).status_code == 202
