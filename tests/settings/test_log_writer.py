"""Log lines reach every output that takes them, whatever the others do, and lost ones are counted."""

import json
import threading
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from settings.log_lines import Entry, json_line
from settings.log_writer import LogWriter, Output
from tests.patience import PATIENCE, await_true

MORE_THAN_WAIT = 30_000


class Paused:
    """An output that takes nothing until it is let go: a pipe nobody reads, a terminal after Ctrl-S."""

    def __init__(self):
        self.lines = []
        self.closed = False
        self._may_go_on = threading.Event()

    def write(self, lines):
        self._may_go_on.wait(PATIENCE)
        self.lines += [json.loads(line) for line in lines.splitlines()]

    def close(self):
        self.closed = True

    def go_on(self):
        self._may_go_on.set()


@pytest.fixture
def stuck():
    output = Paused()
    yield output
    output.go_on()


@pytest.fixture
def sound():
    output = Paused()
    output.go_on()
    return output


@pytest.fixture
def writer(stuck, sound):
    encode = partial(json_line, redact=str)
    return LogWriter([Output("stdout", stuck, encode), Output("file", sound, encode)])


def put(writer, sound, count):
    """Log *count* numbered lines, no faster than they are taken."""
    for number in range(count):
        writer.put(Entry(datetime.now(UTC), "INFO", "Said", "test", {"number": number}))
        if number % 1000 == 999:
            await_true(lambda wanted=number: said(sound)[-1:] == [wanted])


def said(output):
    return [line["number"] for line in output.lines if line["message"] == "Said"]


def noticed(output, phrase):
    return [line for line in output.lines if line["message"] == phrase]


def test_a_line_that_was_put_off_comes_before_what_followed_from_it(writer, sound):
    """A question's line is written when nobody waits for it, at times after that of its search in memory."""
    now = datetime.now(UTC)
    for seconds in (1, 0, 2):
        at = now + timedelta(seconds=seconds)
        writer.put(Entry(at, "INFO", "Said", "test", {"number": seconds}))

    await_true(lambda: len(said(sound)) == 3)
    assert said(sound) == [0, 1, 2]


def test_an_output_that_is_stuck_does_not_hold_up_another(writer, stuck, sound):
    """A terminal that was paused once kept everything out of the file, and nobody counted it."""
    put(writer, sound, MORE_THAN_WAIT)

    assert said(sound) == list(range(MORE_THAN_WAIT))
    [notice] = noticed(sound, "Log output is stuck")
    assert (notice["level"], notice["output"]) == ("WARNING", "stdout")

    stuck.go_on()
    writer.close()

    dropped = noticed(stuck, "Log lines dropped")
    assert len(said(stuck)) + sum(line["count"] for line in dropped) == MORE_THAN_WAIT
    assert said(stuck) == list(range(len(said(stuck))))
    assert noticed(sound, "Log lines dropped") == []
    assert stuck.closed
    assert sound.closed


def test_what_an_output_never_wrote_is_said_by_the_other_at_the_end(writer, stuck, sound):
    put(writer, sound, 2000)

    writer.close(patience=0.1)

    [lost] = noticed(sound, "Log lines dropped")
    assert (lost["output"], lost["count"]) == ("stdout", 2000)
    assert sound.closed
    assert not stuck.closed


def test_closing_again_changes_nothing(writer, stuck, sound):
    stuck.go_on()
    writer.close()
    writer.close()

    assert sound.lines == stuck.lines == []
