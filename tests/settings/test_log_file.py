"""The log file is rotated by size and may be shared by processes."""

import multiprocessing
import shutil
from pathlib import Path

import pytest

from settings.log_file import RotatingFile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "logs" / "api.log"


def append(path, name):
    file = RotatingFile(path, max_bytes=1_000, backups=1_000)
    for number in range(500):
        file.write(f"{name} {number:04}\n".encode())
    file.close()


def test_a_full_file_becomes_the_first_backup(path):
    file = RotatingFile(path, max_bytes=10, backups=2)

    for line in (b"one....\n", b"two....\n", b"three..\n", b"four...\n"):
        file.write(line)
    file.close()

    assert path.read_bytes() == b"four...\n"
    assert path.with_name("api.log.1").read_bytes() == b"three..\n"
    assert path.with_name("api.log.2").read_bytes() == b"two....\n"
    assert sorted(entry.name for entry in path.parent.iterdir()) == [
        "api.log",
        "api.log.1",
        "api.log.2",
    ]


def test_without_backups_the_full_file_is_dropped(path):
    file = RotatingFile(path, max_bytes=10, backups=0)

    file.write(b"one....\n")
    file.write(b"two....\n")
    file.close()

    assert path.read_bytes() == b"two....\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["api.log"]


def test_a_restart_appends(path):
    for line in (b"one\n", b"two\n"):
        file = RotatingFile(path, max_bytes=1_000, backups=1)
        file.write(line)
        file.close()

    assert path.read_bytes() == b"one\ntwo\n"


def test_a_line_longer_than_the_limit_is_kept_whole(path):
    file = RotatingFile(path, max_bytes=10, backups=1)

    file.write(b"x" * 50 + b"\n")
    file.close()

    assert path.read_bytes() == b"x" * 50 + b"\n"


def test_a_file_moved_by_somebody_else_is_opened_again(path):
    file = RotatingFile(path, max_bytes=1_000, backups=1)
    file.write(b"one\n")

    path.rename(path.with_name("moved"))
    file.write(b"two\n")
    file.close()

    assert path.read_bytes() == b"two\n"


def test_a_folder_removed_by_somebody_else_is_made_again(path):
    file = RotatingFile(path, max_bytes=1_000, backups=1)
    file.write(b"one\n")

    shutil.rmtree(path.parent)
    file.write(b"two\n")
    file.close()

    assert path.read_bytes() == b"two\n"


def test_a_file_that_cannot_be_rotated_takes_lines_all_the_same(path, monkeypatch):
    """In a folder that is not the service's own; it once took no line more, for ever."""
    file = RotatingFile(path, max_bytes=10, backups=1)
    file.write(b"one....\n")

    def denied(*_):
        raise PermissionError

    monkeypatch.setattr(Path, "replace", denied)
    for line in (b"two....\n", b"three..\n"):
        with pytest.raises(PermissionError):
            file.write(line)
    file.close()

    assert path.read_bytes() == b"one....\ntwo....\nthree..\n"


def test_processes_that_rotate_together_lose_no_line(path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=append, args=(path, name)) for name in ("a", "b")]

    for process in processes:
        process.start()
    for process in processes:
        process.join(30)

    written = "".join(entry.read_text() for entry in path.parent.iterdir()).splitlines()
    assert sorted(written) == [f"{name} {n:04}" for name in ("a", "b") for n in range(500)]
