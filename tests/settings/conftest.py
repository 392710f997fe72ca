"""A running log whose two outputs are files of the test."""

import json
from contextlib import contextmanager

import pytest

from settings.logging import configure_logging
from settings.sections import Logging


class Logs:
    """Starts the log and reads back what it wrote."""

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "logs" / "api.log"

    @contextmanager
    def running(self, *, production=True, secrets=(), **section):
        section = Logging(**{"file": str(self.path)} | section)
        with (
            (self.folder / "stdout").open("wb") as stdout,
            configure_logging(section, production, secrets=secrets, stdout=stdout) as handle,
        ):
            yield handle

    @property
    def stdout(self):
        return (self.folder / "stdout").read_text("utf-8")

    @property
    def lines(self):
        """What standard output got in production, decoded."""
        return [json.loads(line) for line in self.stdout.split("\n")[:-1]]

    @property
    def file_lines(self):
        return [json.loads(line) for line in self.path.read_text("utf-8").split("\n")[:-1]]


@pytest.fixture
def logs(tmp_path):
    return Logs(tmp_path)
