"""A disk that takes nothing more: answers go on, and what can be written later is."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import httpx
import psutil
from process_service import Service, started

DONE = 'event: done\ndata: {"finish_reason":"stop"}\n\n'
SESSION = "session-20250819-143022-a1b2"


def test_a_log_file_on_a_full_disk_costs_no_answer_and_is_said_once(tmp_path, bearer):
    with started(tmp_path, {"LOG_FILE": "/dev/full"}) as service:
        answers = [ask(service, bearer).text for _ in range(5)]
        status = service.stop()
        output = service.output

    assert all(answer.endswith(DONE) for answer in answers)
    assert status == 0
    assert output.count("Log output fails") == 1
    assert output.count("Chat completion finished") == 5
    assert "Traceback" not in output


def test_a_full_disk_costs_no_answer_and_no_row_once_there_is_room(tmp_path, bearer):
    """Nothing can be written for a while: neither to the database nor to the logs."""
    with started(tmp_path) as service:
        process = psutil.Process(service.process.pid)
        before = ask(service, bearer)
        _, most = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (1, most))
        during = [ask(service, bearer) for _ in range(5)]
        health = httpx.get(service.url("/api/v1/auth/ping"))
        process.rlimit(psutil.RLIMIT_FSIZE, (most, most))
        after = ask(service, bearer)
        rows = settled(tmp_path / "chat.db", 7)
        status = service.stop()

    assert before.text.endswith(DONE)
    assert [answer.text.endswith(DONE) for answer in during] == [True] * 5
    assert health.status_code == 200
    assert after.text.endswith(DONE)
    assert rows == 7
    assert status == 0


def ask(service: Service, bearer: Mapping[str, str]) -> httpx.Response:
    body = {"message": "hi", "sessionId": SESSION, "useMemory": True}
    return httpx.post(service.url("/api/v1/chat"), json=body, headers=bearer, timeout=30)


def settled(path: Path, number: int) -> int:
    """How many turns have a row, once that is *number*, or after 30 s."""
    deadline = time.monotonic() + 30
    while True:
        with closing(sqlite3.connect(path)) as database:
            [(rows,)] = database.execute(
                "SELECT count(*) FROM telemetry_events WHERE type = 'openai_call'"
            )
        if rows >= number or time.monotonic() > deadline:
            return int(rows)
        time.sleep(0.1)
