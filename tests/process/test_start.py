"""The start: quick, or refused in one line that names the variable."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from patience import PATIENCE, await_true
from ports import free_port
from process_service import ROOT, procfile_command, started


def test_the_first_answer_costs_less_than_two_seconds(tmp_path):
    """What passes until then is measured by `make bench`; here others use the machine too."""
    with started(tmp_path) as service:
        used = psutil.Process(service.process.pid).cpu_times()

    assert used.user + used.system < 4  # twice the goal, for a processor that is shared


def test_the_printed_curl_works_as_it_is(tmp_path):
    with started(tmp_path) as service:
        [line] = re.findall(r"^curl .*$", service.output, re.MULTILINE)
        answer = subprocess.run(
            shlex.split(line), capture_output=True, timeout=PATIENCE, check=True
        )

    assert answer.stdout.startswith(b": Connected to chat stream\n\nevent: token\n")
    assert answer.stdout.endswith(b'event: done\ndata: {"finish_reason":"stop"}\n\n')


def test_an_answer_has_no_headers_that_nobody_asked_for(tmp_path):
    """Sanic adds an empty `alt-svc` to every answer of a server that it did not start itself."""
    with started(tmp_path) as service:
        answer = service.request("GET", "/api/v1/auth/ping")

    assert sorted(answer.headers) == [
        "access-control-allow-origin",
        "access-control-expose-headers",
        "connection",
        "content-length",
        "content-type",
        "x-request-id",
    ]


def refused(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A start that is expected to end by itself."""
    return subprocess.run(
        procfile_command(),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "LOG_FILE": "", **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"PORT": "many"}, "PORT"),
        ({"APP_ENV": "production"}, "JWT_SECRET"),
        (
            {"APP_ENV": "production", "JWT_SECRET": "s" * 40, "ENABLE_TEST_SCENARIOS": "true"},
            "ENABLE_TEST_SCENARIOS",
        ),
        ({"JWT_SECRET": "short"}, "JWT_SECRET"),
        ({"MIDDLEWARE": "request_id,nonsense"}, "MIDDLEWARE"),
        ({"PROVIDERS": "openai,openai", "OPENAI_API_KEY": "sk-x"}, "PROVIDERS"),
        ({"HOST": "nosuchhost.invalid"}, "HOST: can't listen on nosuchhost.invalid"),
        ({"HOST": "a" * 64}, "HOST"),
        ({"HOST": "203.0.113.1"}, "HOST"),
        ({"HOST": "*"}, "HOST: can't listen on *"),
        ({"WEB_CONCURRENCY": "2"}, "WEB_CONCURRENCY"),
        ({"OPENAI_BASE_URL": "not a url"}, "OPENAI_BASE_URL"),
        (
            {"OPENAI_API_KEY": "sk-x", "HTTPS_PROXY": "http://me:short@proxy:many"},
            "HTTPS_PROXY",
        ),
        ({"REDIS_URL": "redis://:short@127.0.0.1:1?db=x"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://:short@127.0.0.1:1?colour=red"}, "REDIS_URL"),
        ({"DATABASE_URL": "mysql://user:short@db/chat"}, "DATABASE_URL"),
        ({"DATABASE_URL": "sqlite:////proc/nowhere/chat.db"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgres://user:short@127.0.0.1:1/chat"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgres://u:short@h/chat?sslmode=verify-full"}, "DATABASE_URL"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_value_stops_the_start_with_one_line_that_names_it(variables, named):
    ended = refused(variables)

    assert ended.returncode == 1
    assert "ERROR" not in ended.stdout
    [line] = ended.stderr.splitlines()
    assert line.startswith(named)
    assert "short" not in ended.stderr


def test_bytes_that_are_no_text_stop_the_start_with_one_line():
    """A secret of them was a traceback, a system prompt an error in every answer."""
    ended = refused({"JWT_SECRET": os.fsdecode(b"\xff" * 32)})

    assert ended.returncode == 1
    assert ended.stderr == "JWT_SECRET: must be text in UTF-8\n"


@pytest.fixture
def unread() -> Iterator[int]:
    """A pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("closed", ["", ">&-", "<&- >&- 2>&-"], ids=["unread", "closed", "all"])
def test_nobody_has_to_read_what_is_printed(tmp_path, unread, closed):
    """The start once died of it, after it had accepted, and without a drain; and libuv aborted the process
    when a connection ended that had got the number of the standard error."""
    log, port = tmp_path / "api.log", free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "DATABASE_URL": f"sqlite:///{tmp_path}/chat.db",
        "LOG_FILE": str(log),
    }
    command = procfile_command()
    if closed:
        command = ["sh", "-c", f'exec "$@" {closed}', "sh", *command]
    with (
        (tmp_path / "errors").open("wb") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=unread, stderr=errors
        ) as service,
    ):
        try:
            await_true(lambda: log.exists() and '"message": "Ready"' in log.read_text())
            ping = httpx.get(f"http://127.0.0.1:{port}/api/v1/auth/ping", timeout=PATIENCE)
            service.terminate()
            status = service.wait(PATIENCE)
        finally:
            service.kill()

    assert ping.status_code == 200
    assert status == 0
    assert (tmp_path / "errors").read_bytes() == b""
    assert _logged(log, "Drained")


@pytest.mark.parametrize(("providers", "said"), [("", 1), ("stub", 0)])
def test_production_says_once_that_nobody_but_the_stub_answers(tmp_path, providers, said):
    production = {"APP_ENV": "production", "JWT_SECRET": "s" * 40, "PROVIDERS": providers}

    with started(tmp_path, production) as service:
        service.stop()
        log = service.log.read_text()

    assert log.count("No provider has a key: the stub answers") == said


def test_a_file_that_is_no_database_stops_the_start_with_one_line(tmp_path):
    """The thread of its connection once kept the process from ending."""
    (tmp_path / "chat.db").write_text("a letter, not a database" * 100)

    ended = refused({"DATABASE_URL": f"sqlite:///{tmp_path}/chat.db"})

    assert ended.returncode == 1
    assert ended.stderr == ("DATABASE_URL: The database can't be opened: file is not a database\n")


def test_a_port_that_is_taken_stops_the_start_with_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = refused({"HOST": "127.0.0.1", "PORT": port})

    assert ended.returncode == 1
    assert (
        ended.stderr.splitlines()[-1]
        == f"PORT: can't listen on 127.0.0.1:{port}: Address already in use"
    )


def test_the_log_says_what_the_service_is_made_of(tmp_path):
    variables = {"OPENAI_API_KEY": "sk-x", "ANTHROPIC_API_KEY": "sk-y", "ZEP_API_KEY": "z"}

    with started(tmp_path, variables) as service:
        service.stop()
        ready = _logged(service.log, "Ready")

    assert ready["providers"] == "openai,anthropic"
    assert (ready["database"], ready["redis"]) == ("sqlite", "none")
    assert (ready["memory"], ready["keys"]) == ("zep", "secret")


def test_a_redis_or_key_server_out_of_reach_is_said_once_and_does_not_stop_the_start(
    tmp_path, bearer
):
    variables = {
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "JWT_JWKS_URL": "http://127.0.0.1:1/jwks.json",
    }

    with started(tmp_path, variables) as service:
        answer = service.request("POST", "/api/v1/chat", json={"message": "hi"}, headers=bearer)
        service.stop()
        ready = _logged(service.log, "Ready")
        warnings = [
            _logged(service.log, said) for said in ("Redis not available", "Key set not available")
        ]
        output = service.output

    assert answer.text.endswith('event: done\ndata: {"finish_reason":"stop"}\n\n')
    assert (ready["redis"], ready["keys"]) == ("unreachable", "secret,jwks")
    assert all(warnings)
    assert "Traceback" not in output


def test_a_list_of_plugins_without_limits_is_said_in_the_log(tmp_path):
    """A list written before there was such a plug-in would otherwise lift them unnoticed."""
    with started(tmp_path, {"MIDDLEWARE": "request_id,auth"}) as service:
        service.stop()
        line = _logged(service.log, "MIDDLEWARE does not list limits: there are none")

    assert line["level"] == "WARNING"


def _logged(log: Path, phrase: str) -> dict[str, Any]:
    """The fields of the one line that says *phrase*."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    [found] = [line for line in lines if line["message"] == phrase]
    return found
