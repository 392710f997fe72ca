"""What people have in their notes, command by command: the ways to ask that the pages don't show."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from patience import PATIENCE
from process_service import Service, started

from settings import Settings
from settings.development import development_token

SHOW_TOKEN = (
    'TOKEN=$(python -c "import time, jwt; print(jwt.encode('
    "{'sub': 'test-user-id', 'email': 'test@example.com', 'aud': 'authenticated',"
    " 'exp': int(time.time()) + 3600},"
    " 'placeholder-jwt-secret-with-at-least-32-characters', algorithm='HS256'))\")\n"
)
SSE = '-H "Accept: text/event-stream"'
AUTH = '-H "Authorization: Bearer $TOKEN"'
JSON = '-H "Content-Type: application/json"'
CHAT = "http://localhost:3000/api/v1/chat"
DONE = 'event: done\ndata: {"finish_reason":"stop"}\n\n'

Shell: TypeAlias = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guide")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    log = str(folder / "logs" / "api.log")
    with started(folder, {"LOG_FILE": log, "OPENAI_SSE_HEARTBEAT_MS": "1000"}) as service:
        yield service


@pytest.fixture
def shell(service: Service, folder: Path) -> Shell:
    """Runs a command in the folder of `logs/`, with a token signed by hand."""

    def run(command: str) -> subprocess.CompletedProcess[str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}:/usr/sbin"
        return subprocess.run(
            ["bash", "-c", (SHOW_TOKEN + command).replace(":3000", f":{service.port}")],
            cwd=folder,
            env={"PATH": path},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    return run


@pytest.mark.parametrize(
    "command",
    [
        f'curl -N {SSE} {AUTH} {JSON} -d \'{{"message": "Hello, how are you?"}}\' {CHAT}',
        f'curl -X POST {CHAT} {JSON} {AUTH} -d \'{{"message": "test"}}\'',
        f"curl -v -N {SSE} {AUTH} {JSON}"
        f' -d \'{{"message": "test", "sessionId": "session-20250819-143022-a1b2"}}\' {CHAT}',
        f'curl -N {SSE} {AUTH} {JSON} -d \'{{"message": "What did we discuss before?",'
        f' "useMemory": true, "sessionId": "session-20250819-143022-a1b2"}}\' {CHAT}',
    ],
    ids=["first command", "POST spelt out", "session", "memory and session"],
)
def test_a_sound_question_is_answered_to_its_end(shell: Shell, command: str):
    ended = shell(command)

    assert ended.returncode == 0
    assert ended.stdout.startswith(": Connected to chat stream\n\nevent: token\n")
    assert ended.stdout.endswith(DONE)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ('{"message": ""}', "message"),
        ('{"message": "test", "sessionId": "invalid"}', "sessionId"),
        ('{"message": "\'$(head -c 4100 < /dev/zero | tr "\\0" a)\'"}', "message"),
    ],
    ids=["empty", "session", "too long"],
)
def test_a_wrong_question_is_refused_in_sight_of_curl(shell: Shell, data: str, field: str):
    ended = shell(f"curl -v -N {SSE} {AUTH} {JSON} -d '{data}' {CHAT}")

    assert ended.returncode == 0
    assert "< HTTP/1.1 400 Bad Request" in ended.stderr
    assert f'"details": [{{"field": "{field}"' in ended.stdout


def test_a_token_made_by_hand_is_valid(shell: Shell):
    ended = shell(f"curl {AUTH} http://localhost:3000/api/v1/auth/ping")

    assert '"authenticated":true,"user_id":"test-user-id"' in ended.stdout


def test_curl_itself_refuses_the_head_of_a_post_with_a_body(shell: Shell):
    ended = shell(f'curl -I -X POST {AUTH} {JSON} -d \'{{"message": "test"}}\' {CHAT}')

    assert ended.returncode == 2


def test_the_head_of_a_post_without_a_body_shows_headers_and_does_not_hang(shell: Shell):
    ended = shell(f"curl -I -X POST {AUTH} {JSON} {CHAT}")

    assert ended.returncode == 0
    assert ended.stdout.startswith("HTTP/1.1 400 Bad Request")
    assert "x-request-id: req_" in ended.stdout


def test_a_long_story_shows_heartbeats_between_its_words(shell: Shell):
    ended = shell(
        f'timeout 30 curl -N {AUTH} {JSON} -d \'{{"message":"Tell me a long story"}}\' {CHAT} 2>&1'
        ' | grep --line-buffered -E "(heartbeat|data:|event:)"'
        " | awk '{ print } /heartbeat/ && ++beats == 2 { exit }'"
    )

    assert ended.stdout.count(": heartbeat ") == 2
    assert ended.stdout.count("event: token") > 10


def test_a_timeout_on_demand_is_one_sentence_and_done(shell: Shell):
    ended = shell(
        f'curl -N {AUTH} {JSON} -H "X-Test-Scenario: timeout" -d \'{{"message":"test"}}\' {CHAT}'
        " | grep -v -e '^: heartbeat' -e '^$'"
    )

    assert ended.stdout == (
        ": Connected to chat stream\n"
        "event: token\n"
        'data: {"text":"Request timed out. Please try again with a shorter message."}\n'
        "event: done\n"
        'data: {"finish_reason":"error","code":"OPENAI_TIMEOUT"}\n'
    )


def test_a_preflight_names_the_origin_and_the_headers(shell: Shell):
    ended = shell(
        'curl -i -X OPTIONS -H "Origin: http://localhost:3001"'
        ' -H "Access-Control-Request-Method: POST"'
        f' -H "Access-Control-Request-Headers: Authorization,Content-Type" {CHAT}'
    )

    assert ended.stdout.startswith("HTTP/1.1 204 No Content")
    assert "access-control-allow-origin: *" in ended.stdout
    assert "access-control-allow-headers: authorization, content-type," in ended.stdout


def test_the_log_can_be_watched_for_chats(shell: Shell):
    """It is asked until one chat was watched from its beginning to its end."""
    ended = shell(
        "(timeout 30 tail -n 0 -f logs/api.log"
        ' | grep --line-buffered -E "(Chat request|SSE|memory_ms|total_ms)"'
        " | awk '{ print } /Chat request/ { begun = 1 } begun && /total_ms/ { exit }') &\n"
        f"while kill -0 $! 2>/dev/null; do curl -sN {AUTH} {JSON} -o /dev/null"
        f' -d \'{{"message": "test", "useMemory": true}}\' {CHAT}; sleep 0.2; done'
    )

    for phrase in (
        "Chat request received",
        "Memory retrieval completed",
        "Chat completion finished",
    ):
        assert phrase in ended.stdout


@pytest.mark.parametrize("command", ["netstat -an | grep :3000", "ss -tan 'sport = :3000'"])
def test_connections_can_be_listed(shell: Shell, command: str):
    tool = command.split()[0]
    if shutil.which(tool) is None and os.environ.get("CI") != "true":
        pytest.skip(f"{tool} is not installed")

    ended = shell(command)

    assert "LISTEN" in ended.stdout


def test_the_token_of_the_notes_is_the_one_that_make_token_prints(shell: Shell):
    """Both are signed with the placeholder, which only development takes."""
    ended = shell('echo "$TOKEN" | cut -d. -f1')

    assert ended.stdout.strip() == development_token(Settings()).partition(".")[0]
