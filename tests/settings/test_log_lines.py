"""Whatever a record holds, it is one line that says what the record says."""

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from settings.log_lines import Entry, json_line, text_line
from settings.redaction import Redactor

MOMENT = datetime(2026, 11, 22, 17, 30, 5, 250_000, tzinfo=UTC)
TEXT = st.text() | st.sampled_from(["\r\n", "\u2028", "\x85", "\x1b[31m", '"}\n{"', "\ud800"])

plain = Redactor()
names = st.text(min_size=1).map(lambda name: f"x{name}")


@given(message=TEXT, fields=st.dictionaries(names, TEXT | st.integers() | st.floats()))
def test_any_record_is_one_line_of_valid_json(message, fields):
    line = json_line(Entry(MOMENT, "INFO", message, "services.chat", fields), str)

    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line, parse_constant=lambda name: 1 / 0)
    assert found["message"] == message
    assert {"time", "level", "message", "logger", *fields} == set(found)


@given(message=TEXT, value=TEXT)
def test_any_record_is_one_line_of_text(message, value):
    line = text_line(Entry(MOMENT, "INFO", message, "services.chat", {"value": value}), plain)

    assert len(line.splitlines()) == 1


@given(exception=TEXT)
def test_a_traceback_never_starts_a_line(exception):
    text = text_line(Entry(MOMENT, "ERROR", "Failed", "services.chat", {}, exception), plain)

    first, *rest = text.splitlines()
    assert first == "17:30:05 ERROR   Failed"
    assert all(line.startswith("    ") for line in rest)


def test_a_line_reads_as_documented():
    entry = Entry(MOMENT, "INFO", "Ready", "app", {"port": 3000})

    assert json_line(entry, plain) == (
        '{"time": "2026-11-22T17:30:05.250Z", "level": "INFO", "message": "Ready",'
        ' "port": 3000, "logger": "app"}'
    )
    assert text_line(entry, plain) == "17:30:05 INFO    Ready port=3000"
