"""Several workers behind one port: any of them resumes, stops and deduplicates."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from patience import PATIENCE, await_true
from process_service import ROOT, started

CHAT = "/api/v1/chat"


@pytest.fixture
def variables(postgres_url, redis):
    return {"WEB_CONCURRENCY": "2", "DATABASE_URL": postgres_url, "REDIS_URL": redis.url}


def workers_of(service) -> list[psutil.Process]:
    return psutil.Process(service.process.pid).children()


def test_every_worker_knows_every_stream(tmp_path, variables, bearer):
    """A new connection meets either worker, so twenty of them meet both."""
    keyed = bearer | {"Idempotency-Key": "k"}
    with started(tmp_path, variables) as service:
        assert len(workers_of(service)) == 2
        bodies, ids = set(), set()
        for _ in range(20):
            reply = service.request("POST", CHAT, json={"message": "hi"}, headers=keyed)
            bodies.add(reply.text)
            ids.add(reply.headers["x-stream-id"])
        resumed = [
            service.request(
                "GET", f"{CHAT}/{min(ids)}", headers=bearer | {"Last-Event-ID": "3"}
            ).text
            for _ in range(10)
        ]
        stopped = [
            service.request("DELETE", f"{CHAT}/{min(ids)}", headers=bearer).status_code
            for _ in range(10)
        ]
        service.process.send_signal(signal.SIGTERM)
        status = service.wait()

    assert len(bodies) == len(ids) == 1
    assert {text.split("\n\n", 1)[1] for text in resumed} == {
        'event: done\ndata: {"finish_reason":"stop","events":4}\nid: 4\n\n'
    }
    assert set(stopped) == {202}
    assert status == 0


def test_a_worker_that_dies_is_replaced_and_the_other_serves_on(tmp_path, variables):
    with started(tmp_path, variables) as service:
        before = workers_of(service)
        before[0].kill()
        await_true(lambda: set(workers_of(service)) - set(before))
        [successor] = set(workers_of(service)) - set(before)
        service.await_health()
        service.process.send_signal(signal.SIGTERM)
        status = service.wait()

    assert status == 0
    assert not successor.is_running()


def test_workers_end_with_their_parent_however_it_ends(tmp_path, variables):
    """Nobody else could stop them, and they would keep the port from the next start."""
    with started(tmp_path, variables) as service:
        workers = workers_of(service)
        service.process.kill()
        service.process.wait()

        await_true(lambda: not any(worker.is_running() for worker in workers))


def test_a_worker_killed_while_it_starts_is_started_again(tmp_path, variables):
    """Nobody serves yet: whoever kills it then, out of memory perhaps, has not shown that it can't."""
    with started(tmp_path, variables, healthy=False) as service:
        await_true(lambda: workers_of(service))
        killed = workers_of(service)[0]
        killed.kill()
        service.await_health()
        await_true(lambda: len(set(workers_of(service)) - {killed}) == 2)
        workers = workers_of(service)
        status = service.stop()

    assert status == 0
    assert not any(worker.is_running() for worker in workers)


def test_the_service_ends_with_its_workers_when_they_cannot_start(tmp_path, variables):
    """A bad database would otherwise be tried for ever, and the platform would see a healthy parent."""
    environment = variables | {
        "PATH": os.environ["PATH"],
        "PORT": "0",
        "LOG_FILE": "none",
        "DATABASE_URL": "postgres://nobody@127.0.0.1:1/none",
    }
    ended = subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, env=environment, capture_output=True, timeout=PATIENCE
    )

    assert ended.returncode == 1


@pytest.mark.parametrize("missing", ["REDIS_URL", "DATABASE_URL"])
def test_workers_without_what_they_share_are_refused_naming_it(variables, missing: str):
    environment = {"PATH": os.environ["PATH"], **variables}
    del environment[missing]

    ended = subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, env=environment, capture_output=True, timeout=PATIENCE
    )

    assert ended.returncode == 1
    named = {"REDIS_URL": "REDIS_URL", "DATABASE_URL": "Postgres DATABASE_URL"}[missing]
    assert re.search(rf"^WEB_CONCURRENCY: .*{named}", ended.stderr.decode(), re.MULTILINE)


def test_each_worker_has_a_log_file_of_its_own(tmp_path, variables):
    """Two processes that rotate one file lose each other's lines."""

    def files() -> list[str]:
        return sorted(path.name for path in Path(tmp_path).glob("api*.log"))

    with started(tmp_path, variables) as service:
        # The first one answers; the other may still be starting.
        await_true(lambda: len(files()) > 1)
        service.stop()

    assert files() == ["api.2.log", "api.log"]
