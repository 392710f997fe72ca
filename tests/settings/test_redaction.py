"""No secret leaves the process in a log line."""

import pytest

from settings.redaction import Redactor


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Authorization: Bearer abc.def-1", "Authorization: [redacted]"),
        ("{'authorization': 'bearer abc'}", "{'authorization': '[redacted]'}"),
        ("token eyJhbGciOi.eyJzdWIi.c2ln is bad", "token [redacted] is bad"),
        ("Incorrect API key provided: sk-abcd****wxyz.", "Incorrect API key provided: [redacted]."),
        ("connect to postgresql://me:word@host/db", "connect to postgresql://[redacted]@host/db"),
        ("A valid bearer token is required.", "A valid bearer token is required."),
        ("see https://docs.example/x", "see https://docs.example/x"),
    ],
)
def test_credentials_are_known_by_their_shape(text, redacted):
    assert Redactor()(text) == redacted


@pytest.mark.parametrize(
    "text",
    ["a'b\"c/d\\e é", repr("a'b\"c/d\\e é"), r"a'b\"c/d\\e \u00e9", "a%27b%22c%2Fd%5Ce%20%C3%A9"],
)
def test_a_known_secret_is_replaced_in_every_spelling(text):
    redact = Redactor(["a'b\"c/d\\e é"])

    assert redact(text).strip("'") == "[redacted]"


def test_a_secret_inside_a_longer_one_leaves_no_rest():
    assert Redactor(["secret", "secret-and-more"])("x secret-and-more x") == "x [redacted] x"


def test_a_value_of_a_few_letters_is_no_secret():
    assert Redactor(["at", ""])("at the end") == "at the end"
