"""What the parent of several workers makes of their deaths, with workers that die to order."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from patience import PATIENCE, await_true
from process_service import ROOT

# A worker serves if the file "well" exists, and else gives up. Each start appends a line to "starts",
# and each worker that serves one to "serves".
SCRIPT = """
import os, signal, socket, sys, time
from pathlib import Path
import workers

folder = Path(sys.argv[1])

def note(number, file):
    with (folder / file).open("a") as lines:
        print(number, os.getpid(), file=lines, flush=True)

def work(number, listening, serving):
    note(number, "starts")
    if not (folder / "well").exists():
        sys.exit("unwell")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    serving()
    note(number, "serves")
    signal.sigwait({signal.SIGTERM})

with socket.create_server(("127.0.0.1", 0)) as listening:
    sys.exit(workers.run(2, listening, work))
"""


def supervised(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], cwd=ROOT)


def noted(folder: Path, file: str, count: int = 0) -> list[tuple[int, int]]:
    """The number and process id of each line of *file*, once there are *count*."""

    def lines() -> list[str]:
        return (folder / file).read_text().splitlines() if (folder / file).exists() else []

    await_true(lambda: len(lines()) >= count, lambda: f"{file}: {lines()}")
    return [(int(number), int(process)) for number, process in map(str.split, lines())]


def test_all_end_when_none_could_ever_serve(tmp_path):
    parent = supervised(tmp_path)

    assert parent.wait(PATIENCE) == 1
    assert len(noted(tmp_path, "starts")) <= 2


def test_a_successor_that_gives_up_is_started_again_until_it_serves(tmp_path):
    """What it needs may be gone for a while, and the other worker serves on."""
    (tmp_path / "well").touch()
    parent = supervised(tmp_path)
    [(number, process), (_, other)] = noted(tmp_path, "serves", 2)
    (tmp_path / "well").unlink()
    psutil.Process(process).kill()

    noted(tmp_path, "starts", 4)
    (tmp_path / "well").touch()
    [*_, last] = noted(tmp_path, "serves", 3)
    assert psutil.Process(other).is_running()
    parent.terminate()

    assert parent.wait(PATIENCE) == 0
    tried = noted(tmp_path, "starts")[2:]
    assert {again for again, _ in tried} == {number}
    assert tried[-1] == last


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_no_worker_outlives_its_parent(tmp_path, end):
    """SIGHUP once ended the parent alone, and the workers kept the port."""
    (tmp_path / "well").touch()
    parent = supervised(tmp_path)
    serving = noted(tmp_path, "serves", 2)
    parent.send_signal(end)

    assert parent.wait(PATIENCE) == 0
    assert not any(psutil.pid_exists(process) for _, process in serving)


def test_sigterm_ends_a_parent_that_waits_to_start_a_worker_again(tmp_path):
    (tmp_path / "well").touch()
    parent = supervised(tmp_path)
    [(_, process), _] = noted(tmp_path, "serves", 2)
    (tmp_path / "well").unlink()
    psutil.Process(process).kill()
    [*_, (_, unwell)] = noted(tmp_path, "starts", 3)
    await_true(lambda: not psutil.pid_exists(unwell))
    parent.terminate()

    assert parent.wait(PATIENCE) == 0
