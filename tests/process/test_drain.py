"""SIGTERM: nobody new, everybody finishes or is told, everything is written, exit 0."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager

import httpx
from process_service import Service, started

CHAT = "/api/v1/chat"
STORY = {"message": "Tell me a long story"}
SENTENCE = "Server error, please try again later."


@contextmanager
def reading(service: Service, bearer: dict[str, str], body: dict = STORY, **headers: str):
    """A stream whose body is collected by a thread; yields the list of its parts."""
    parts: list[bytes] = []
    begun = threading.Event()

    def read() -> None:
        with httpx.stream(
            "POST", service.url(CHAT), json=body, headers=bearer | headers, timeout=30
        ) as response:
            for part in response.iter_raw():
                parts.append(part)
                begun.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert begun.wait(10)
    try:
        yield parts
    finally:
        thread.join(30)
        assert not thread.is_alive()


def ends_once(parts: list[bytes]) -> bytes:
    """The last frame of a stream that has exactly one `done`."""
    body = b"".join(parts)
    assert body.count(b"event: done") == 1
    return body.split(b"\n\n")[-2]


def test_streams_that_do_not_finish_in_time_are_told_and_the_process_exits_0(tmp_path, bearer):
    with (
        started(tmp_path, {"DRAIN_TIMEOUT_MS": "500"}) as service,
        reading(service, bearer) as story,
        reading(service, bearer, **{"X-Test-Scenario": "slow_first_token"}) as waiting,
    ):
        service.process.send_signal(signal.SIGTERM)
        status = service.wait()
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
    with started(tmp_path, {"DRAIN_TIMEOUT_MS": "15000"}) as service:
        begun = time.monotonic()
        headers = {"X-Test-Scenario": "slow_first_token"}
        with reading(service, bearer, {"message": "hi"}, **headers) as parts:
            service.process.send_signal(signal.SIGTERM)
        status = service.wait()

    assert status == 0
    assert ends_once(parts) == b'event: done\ndata: {"finish_reason":"stop"}'
    assert time.monotonic() - begun < 12


def test_while_draining_nobody_new_is_served(tmp_path, bearer):
    with started(tmp_path, {"DRAIN_TIMEOUT_MS": "3000"}) as service:
        with reading(service, bearer):
            service.process.send_signal(signal.SIGTERM)
            ping = _until_503(service)
            chat = httpx.post(service.url(CHAT), json=STORY, headers=bearer)
        status = service.wait()

    assert ping.json()["error"]["code"] == "DRAINING"
    assert int(ping.headers["retry-after"]) >= 1
    assert chat.status_code == 503
    assert int(chat.headers["retry-after"]) >= 1
    assert status == 0


def test_a_second_sigterm_changes_nothing(tmp_path, bearer):
    with started(tmp_path, {"DRAIN_TIMEOUT_MS": "1500"}) as service:
        with reading(service, bearer) as parts:
            service.process.send_signal(signal.SIGTERM)
            _until_503(service)
            service.process.send_signal(signal.SIGTERM)
        status = service.wait()

    assert status == 0
    assert ends_once(parts).startswith(b"event: done")
    assert "Traceback" not in service.output


def test_an_idle_process_stops_at_once(tmp_path):
    with started(tmp_path) as service:
        begun = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        status = service.wait()

    assert status == 0
    assert time.monotonic() - begun < 3


def _until_503(service: Service) -> httpx.Response:
    for _ in range(200):
        answer = httpx.get(service.url("/api/v1/auth/ping"))
        if answer.status_code == 503:
            return answer
        time.sleep(0.01)
    raise AssertionError("the ping never turned 503")
