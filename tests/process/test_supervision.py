"""What the parent of several workers makes of their deaths, with workers that die to order."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from process_service import ROOT

# A worker serves if the file "well" exists, and else gives up; each start appends a line to "starts".
SCRIPT = """
import os, signal, socket, sys, time
from pathlib import Path
import workers

folder = Path(sys.argv[1])

def work(number, listening, serving):
    with (folder / "starts").open("a") as starts:
        print(number, os.getpid(), file=starts, flush=True)
    if not (folder / "well").exists():
        sys.exit("unwell")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    serving()
    signal.sigwait({signal.SIGTERM})

with socket.create_server(("127.0.0.1", 0)) as listening:
    sys.exit(workers.run(2, listening, work))
"""


def supervised(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], cwd=ROOT)


def starts(folder: Path, count: int, patience: float = 30) -> list[tuple[int, int]]:
    """The number and process id of each start, once there were *count*."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        lines = (folder / "starts").read_text().splitlines() if (folder / "starts").exists() else []
        if len(lines) >= count:
            return [(int(number), int(process)) for number, process in map(str.split, lines)]
        time.sleep(0.02)
    raise AssertionError(f"{len(lines)} starts in {patience} s")


def test_all_end_when_none_could_ever_serve(tmp_path):
    parent = supervised(tmp_path)

    assert parent.wait(30) == 1
    assert len((tmp_path / "starts").read_text().splitlines()) <= 2


def test_a_successor_that_gives_up_is_started_again_until_it_serves(tmp_path):
    """What it needs may be gone for a while, and the other worker serves on."""
    (tmp_path / "well").touch()
    parent = supervised(tmp_path)
    [(number, process), (_, other)] = starts(tmp_path, 2)
    time.sleep(0.2)
    (tmp_path / "well").unlink()
    subprocess.run(["kill", "-KILL", str(process)], check=True)

    tried = starts(tmp_path, 4)[2:]
    (tmp_path / "well").touch()
    subprocess.run(["kill", "-0", str(other)], check=True)
    last = starts(tmp_path, 5)[-1]
    time.sleep(0.2)
    parent.terminate()

    assert parent.wait(30) == 0
    assert {again for again, _ in [*tried, last]} == {number}


def test_sigterm_ends_a_parent_that_waits_to_start_a_worker_again(tmp_path):
    (tmp_path / "well").touch()
    parent = supervised(tmp_path)
    [(_, process), _] = starts(tmp_path, 2)
    time.sleep(0.2)
    (tmp_path / "well").unlink()
    subprocess.run(["kill", "-KILL", str(process)], check=True)
    starts(tmp_path, 3)
    time.sleep(0.1)
    parent.terminate()

    assert parent.wait(30) == 0
