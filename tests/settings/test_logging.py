"""Log lines: their form, their safety, and that nothing waits for them."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from loguru import logger as log

from settings.logging import configure_logging
from settings.sections import Logging

ROOT = Path(__file__).parents[2]


def fail(message, planted=""):
    raise ValueError(message)


class Unprintable:
    def __str__(self):
        raise RuntimeError("no")


def test_a_line_is_one_flat_json_object_on_both_outputs(logs):
    with logs.running():
        log.bind(request_id="req_1").info(
            "Memory retrieval completed", memory_ms=150, results_count=5, total_tokens=245
        )

    (line,) = logs.lines
    assert line["level"] == "INFO"
    assert line["message"] == "Memory retrieval completed"
    assert line["request_id"] == "req_1"
    assert line["logger"] == __name__
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    assert logs.file_lines == logs.lines


def test_the_guides_pattern_is_found_in_the_file(logs):
    """Operators grep for it as the guide shows it."""
    with logs.running():
        log.info("Memory retrieval completed", memory_ms=150, results_count=5, total_tokens=245)

    assert '"memory_ms": 150, "results_count": 5, "total_tokens": 245' in logs.path.read_text()


def test_context_reaches_every_line_inside_it(logs):
    with logs.running(), log.contextualize(request_id="req_2"):
        log.info("Chat request received")

    assert logs.lines[0]["request_id"] == "req_2"


@pytest.mark.parametrize("forged", ["a\nb", "a\r\nb", "a\u2028b", "a\x85b", "a\x1b[2Kb", '"}\n{"'])
@pytest.mark.parametrize("production", [True, False])
def test_nothing_in_a_value_can_make_a_second_line(logs, forged, production):
    with logs.running(production=production):
        log.info("Chat request received", agent=forged)
        logging.getLogger("sanic.root").warning(forged)

    assert len(logs.stdout.splitlines()) == 2
    assert "\x1b" not in logs.stdout
    assert [line.get("agent", line["message"]) for line in logs.file_lines] == [forged, forged]


def test_a_traceback_is_one_field_and_shows_no_local_values(logs):
    with logs.running():
        try:
            fail("broken", planted=3 * "local")
        except ValueError:
            log.exception("SSE stream error", code="SERVER_ERROR")

    (line,) = logs.lines
    assert line["message"] == "SSE stream error"
    assert line["code"] == "SERVER_ERROR"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("ValueError: broken")
    assert "locallocallocal" not in logs.stdout


def test_a_traceback_is_indented_for_a_person(logs):
    with logs.running(production=False):
        try:
            fail("first\n12:00:00 INFO    forged")
        except ValueError:
            log.exception("SSE stream error")

    first, *rest = logs.stdout.splitlines()
    assert first.endswith("ERROR   SSE stream error")
    assert all(line.startswith("    ") for line in rest)


def test_text_shows_the_fields(logs):
    with logs.running(production=False):
        log.info("Chat completion finished", total_ms=812, model="a b", session_id=None)

    assert logs.stdout[8:] == ' INFO    Chat completion finished total_ms=812 model="a b"\n'


def test_fields_cannot_replace_the_fixed_ones(logs):
    with logs.running():
        log.bind(level="forged", time="forged", message="forged").info("Chat request received")

    (line,) = logs.lines
    assert (line["level"], line["message"]) == ("INFO", "Chat request received")
    assert line["level_"] == line["time_"] == line["message_"] == "forged"


def test_values_that_json_lacks_are_still_valid_json(logs):
    with logs.running():
        log.info("Odd", nan=float("nan"), cost=Decimal("0.25"), items=["a"], lone="\ud800")

    assert "NaN" not in logs.stdout
    (line,) = logs.lines
    assert (line["nan"], line["cost"], line["items"]) == ("nan", 0.25, "['a']")


def test_a_value_that_cannot_be_shown_costs_its_own_line_only(logs):
    with logs.running():
        log.info("Odd", value=Unprintable())
        log.info("Next")

    assert [line["message"] for line in logs.lines] == ["Log line can't be encoded", "Next"]


def test_secrets_are_replaced_wherever_they_turn_up(logs):
    with logs.running(secrets=["planted-secret"]):
        try:
            fail("Authorization: Bearer abc.def, key planted-secret")
        except ValueError:
            log.exception(
                "Failed with planted-secret", key="planted-secret", also=["planted-secret"]
            )

    assert "planted-secret" not in logs.stdout
    assert "planted-secret" not in logs.path.read_text()
    assert "abc.def" not in logs.stdout
    assert logs.lines[0]["key"] == "[redacted]"


def test_standard_library_logging_arrives_with_its_own_name(logs):
    logging.getLogger("aiohttp.client").addHandler(logging.StreamHandler())

    with logs.running():
        logging.getLogger("aiohttp.client").warning("Unclosed %s", "session")

    (line,) = logs.lines
    assert (line["logger"], line["level"]) == ("aiohttp.client", "WARNING")
    assert line["message"] == "Unclosed session"


def test_libraries_stay_silent_about_queries_even_at_debug(logs):
    """`databases` logs SQL with its values at DEBUG, and a value can be a user's message."""
    with logs.running(level="DEBUG"):
        log.debug("Ours")
        logging.getLogger("databases").debug("INSERT ... the user's words")

    assert [line["message"] for line in logs.lines] == ["Ours"]


def test_the_level_holds_for_both_sources(logs):
    with logs.running(level="WARNING"):
        log.info("Ours")
        logging.getLogger("sanic.root").info("Theirs")
        log.warning("Kept")

    assert [line["message"] for line in logs.lines] == ["Kept"]


def test_a_file_that_cannot_be_opened_is_a_warning(logs, tmp_path):
    (tmp_path / "taken").write_text("")

    with logs.running(file=str(tmp_path / "taken" / "api.log")):
        log.info("Still here")

    warning, line = logs.lines
    assert warning["level"] == "WARNING"
    assert warning["message"] == "Log file can't be opened, logging to standard output only"
    assert warning["file"].endswith("taken/api.log")
    assert line["message"] == "Still here"


def test_an_output_that_fails_does_not_stop_the_other(logs):
    with (
        open("/dev/full", "wb") as full,  # noqa: PTH123 - a device, not a path of ours
        configure_logging(Logging(file=str(logs.path)), True, stdout=full),
    ):
        log.info("First")

    assert logs.file_lines[0]["message"] == "First"


def test_closing_restores_the_standard_librarys_handlers(logs):
    before = logging.root.handlers

    with logs.running() as handle:
        assert logging.root.handlers != before
        handle.close()

    assert logging.root.handlers == before


def test_a_reader_that_is_stuck_does_not_hold_up_the_program(tmp_path):
    """A full pipe blocks its writer; that must be the log's thread, never the event loop."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as stdout, os.fdopen(reader, "rb") as pipe:
        with configure_logging(Logging(file=None), True, stdout=stdout):
            for number in range(30_000):
                log.info("Chat request received", number=number)
            received = bytearray()

            def drain():
                while chunk := os.read(pipe.fileno(), 65_536):
                    received.extend(chunk)

            thread = threading.Thread(target=drain)
            thread.start()
        stdout.close()
        thread.join()

    lines = [json.loads(line) for line in received.splitlines()]
    written = [line for line in lines if line["message"] == "Chat request received"]
    dropped = [line["count"] for line in lines if line["message"] == "Log lines dropped"]
    assert len(written) + sum(dropped) == 30_000


def test_a_line_costs_the_event_loop_little(logs):
    """12 us were measured; the bound leaves room for a slow and busy machine."""
    fields = {"ttft_ms": 12, "total_ms": 345, "tokens_in": 3, "tokens_out": 5}

    with logs.running():
        rounds = []
        for _ in range(5):
            start = time.thread_time()
            for _ in range(200):
                log.info("Chat completion finished", request_id="req_1", **fields)
            rounds.append((time.thread_time() - start) / 200)

    assert min(rounds) < 40e-6


def test_a_process_that_dies_of_an_exception_has_logged_why(tmp_path):
    program = (
        "from loguru import logger\n"
        "from settings.logging import configure_logging\n"
        "from settings.sections import Logging\n"
        "configure_logging(Logging(file=None), True)\n"
        "logger.error('Last words')\n"
        "raise SystemExit(1)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, check=False, timeout=30
    )

    assert json.loads(done.stdout)["message"] == "Last words"
