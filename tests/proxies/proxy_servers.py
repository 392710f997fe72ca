"""nginx and Apache as child processes, with the configuration that is shipped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from patience import await_true
from ports import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"


@contextmanager
def nginx(upstream: int, folder: Path) -> Iterator[int]:
    """nginx in front of port *upstream*; the block gets its own port."""
    port = free_port()
    config = _derived(
        "nginx.conf",
        {
            "127.0.0.1:3000": f"127.0.0.1:{upstream}",
            "listen 80;": f"listen 127.0.0.1:{port};",
            "http {": "http {" + "".join(
                f" {kind}_temp_path {folder}/{kind};"
                for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            ),
        },
    )  # fmt: skip
    (folder / "nginx.conf").write_text(config)
    command = [
        _installed("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"),
        "-e", str(folder / "error.log"),
        "-g", f"pid {folder}/nginx.pid; daemon off; master_process off;",
    ]  # fmt: skip
    with _running(command, port, folder):
        yield port


@contextmanager
def apache(upstream: int, folder: Path) -> Iterator[int]:
    """Apache in front of port *upstream*; the block gets its own port."""
    port = free_port()
    config = _derived(
        "apache.conf",
        {
            "127.0.0.1:3000": f"127.0.0.1:{upstream}",
            "Listen 80": f"Listen 127.0.0.1:{port}",
            "/run/apache2/chat.pid": f"{folder}/apache.pid",
            "/var/log/apache2/chat-error.log": f"{folder}/error.log",
            "ServerRoot": f"DefaultRuntimeDir {folder}\nServerRoot",
        },
    )
    (folder / "apache.conf").write_text(config)
    command = [_installed("apache2"), "-f", str(folder / "apache.conf"), "-D", "FOREGROUND"]
    with _running(command, port, folder):
        yield port


def _derived(name: str, changes: dict[str, str]) -> str:
    """The shipped file *name* with other ports and paths; each of *changes* has to find its place."""
    text = (DEPLOY / name).read_text()
    for old, new in changes.items():
        assert old in text, f"{name} has no {old!r}"
        text = text.replace(old, new)
    return text


def _installed(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        missing = f"{name} is not installed: apt-get install {name}"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return path


@contextmanager
def _running(command: list[str], port: int, folder: Path) -> Iterator[None]:
    output = folder / "output.txt"
    with output.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        await_true(lambda: _accepts(port) or process.poll() is not None, output.read_text)
        assert process.poll() is None, f"it ended at once:\n{output.read_text()}"
        yield
    finally:
        # Asked, Apache would wait for its streams first; killed alone, its workers would stay.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
