"""What the platforms read agrees with the settings and with the routes."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def railway():
    return tomllib.loads((ROOT / "railway.toml").read_text())


def procfile():
    (line,) = (ROOT / "Procfile").read_text().splitlines()
    kind, _, command = line.partition(": ")
    assert kind == "web"
    return shlex.split(command)


def dockerfile():
    text = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    steps = (line.split(None, 1) for line in text.splitlines() if line and line[0] != "#")
    return dict(steps)


def test_the_process_is_the_service_itself_not_a_shell_around_it():
    """A shell in between would keep SIGTERM for itself, and every deploy would cut its streams."""
    assert procfile() == ["exec", "python", "app.py"]
    assert json.loads(dockerfile()["CMD"]) == ["python", "app.py"]
    assert (ROOT / "app.py").exists()


def test_railway_kills_only_after_the_drain_is_over(railway):
    """After the drain comes what the operations page says, which a test of its own holds it to."""
    page = (ROOT / "docs" / "operations.md").read_text()
    slack = int(re.findall(r"`DRAIN_TIMEOUT_MS` \+ (\d+) s", page)[0])
    drain = Settings().server.drain_timeout_ms / 1000

    assert railway["deploy"]["drainingSeconds"] >= drain + slack


def test_railway_asks_the_ping_and_waits_for_the_next_to_be_ready(railway):
    deploy = railway["deploy"]

    assert deploy["healthcheckPath"] == "/api/v1/auth/ping"
    assert 0 < deploy["healthcheckTimeout"] <= 300
    assert deploy["overlapSeconds"] > 0
    assert deploy["restartPolicyType"] == "ON_FAILURE"


def test_railway_gets_numbers(railway):
    """Its parser refuses strings, although its examples show them (railwayapp/docs#1243)."""
    for key in ("healthcheckTimeout", "overlapSeconds", "drainingSeconds"):
        assert isinstance(railway["deploy"][key], int)


def test_railway_leaves_the_start_to_the_procfile(railway):
    assert "startCommand" not in railway["deploy"]
    assert railway["build"] == {"builder": "RAILPACK"}


def test_every_platform_runs_the_python_that_the_lock_files_were_made_for():
    assert (ROOT / "runtime.txt").read_text() == "python-3.11\n"
    assert dockerfile()["FROM"] == "python:3.11-slim"


def test_the_container_is_production_unprivileged_and_unbuffered():
    steps = dockerfile()

    assert "APP_ENV=production" in steps["ENV"]
    assert "PYTHONUNBUFFERED=1" in steps["ENV"]
    assert steps["USER"] == "app"
    assert steps["EXPOSE"] == str(Settings().server.port)


@pytest.mark.parametrize("name", ["requirements", "requirements-dev", "requirements-bench"])
def test_every_requirement_is_pinned_and_names_no_host(name):
    lines = (ROOT / f"{name}.txt").read_text().splitlines()

    for line in lines:
        if line and not line.startswith("#"):
            assert re.match(r"[a-z0-9-]+==[0-9][^ ]*( +# via .+)?$", line)
        assert "://" not in line
        assert "--" not in line


def test_what_is_tested_and_measured_is_what_runs():
    def pins(name):
        lines = (ROOT / name).read_text().splitlines()
        return {line.split()[0] for line in lines if "==" in line}

    assert pins("requirements.txt") < pins("requirements-dev.txt") < pins("requirements-bench.txt")
