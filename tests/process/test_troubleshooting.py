"""The commands of docs/troubleshooting.md do what the page says, against a child process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from patience import PATIENCE
from process_service import ROOT, Service, started

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
BLOCK = re.compile(r"^```bash\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
SETUP, _ = BLOCK.findall(PAGE)[0]
SECTIONS = {
    title: BLOCK.findall(text)
    for title, text in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
# What `make token` runs, where `make` would first install what is installed.
MAKE = f'make() {{ (cd "{ROOT}" && "{sys.executable}" -m settings.development) }}\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("service")
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@pytest.fixture(scope="module")
def service(folder: Path):
    variables = {"LOG_FILE": str(folder / "logs" / "api.log"), "OPENAI_SSE_HEARTBEAT_MS": "3000"}
    with started(folder, variables) as service:
        yield service


def run(command: str, service: Service, folder: Path) -> str:
    """What *command* prints, typed after the page's first block."""
    script = (MAKE + SETUP + command).replace("localhost:3000", f"127.0.0.1:{service.port}")
    ended = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        timeout=PATIENCE,
    )
    return ended.stdout.decode().replace("\r\n", "\n").strip()


def says(expected: str) -> re.Pattern[str]:
    """What matches *expected*, in which `…` stands for anything, and alone for any number of lines."""
    lines = re.sub(r"^…\n", "\0", expected.strip(), flags=re.MULTILINE)
    return re.compile(
        re.escape(lines).replace("\0", "(?:[^\n]*\n)*?").replace("…", ".*?"), re.DOTALL
    )


@pytest.mark.parametrize(
    "title", [title for title, blocks in SECTIONS.items() if blocks], ids=lambda title: title
)
def test_every_command_of_a_section_prints_what_the_page_says(title, service, folder):
    for command, expected in SECTIONS[title]:
        deadline = time.monotonic() + PATIENCE
        printed = run(command, service, folder)
        # A log line is written beside the answer, at times after it.
        while (
            "logs/api.log" in command
            and not says(expected).fullmatch(printed)
            and time.monotonic() < deadline
        ):
            printed = run(command, service, folder)
        assert says(expected).fullmatch(printed), f"{command}\nprinted\n{printed}"


def test_every_command_says_what_it_prints():
    commands = [block for blocks in SECTIONS.values() for block in blocks]

    assert len(commands) > 15
    assert all(expected.strip() for _, expected in commands)
