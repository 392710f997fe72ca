from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import Detail, ValidationFailed
from services.storage.paging import LARGEST, decode_cursor, encode_cursor, page_of


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@given(st.integers(0, 2**63 - 1), st.from_regex(r"\A[a-z0-9:-]{0,60}\Z"))
def test_a_cursor_comes_back_as_the_key_it_was(number: int, name: str) -> None:
    cursor = encode_cursor((number, name))

    assert decode_cursor(cursor) == (number, name)
    assert cursor.isascii()
    assert set(cursor).isdisjoint("+/=&?# ")


@pytest.mark.parametrize(
    "cursor",
    [
        "nonsense",
        "é",
        "=",
        "a" * 10_000,
        _encoded("[]"),
        _encoded("[1]"),
        _encoded('["1", "a"]'),
        _encoded('[-1, "a"]'),
        _encoded('[9223372036854775808, "a"]'),
        _encoded('[true, "a"]'),
        _encoded('[1.0, "a"]'),
        _encoded('[1, "a", 2]'),
        _encoded('[1,"a"]'),
        _encoded('[1, "\\ud800"]'),
        _encoded('[1, "\\u0000"]'),
        _encoded("[" * 100),
        encode_cursor((1, "a")) + "=",
        encode_cursor((1, "a")) + "\n",
    ],
)
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        decode_cursor(cursor)

    assert refused.value.details == (Detail("cursor", "This is not a cursor of this list."),)


@given(st.text())
def test_any_text_is_a_key_or_refused(text: str) -> None:
    try:
        key = decode_cursor(text)
    except ValidationFailed:
        return
    assert encode_cursor(key) == text


def test_the_last_page_has_no_cursor() -> None:
    assert page_of([1, 2], 2, lambda n: (n, "")).next_cursor is None
    assert page_of([], 2, lambda n: (n, "")).next_cursor is None


def test_a_page_ends_where_its_items_are_large_and_the_next_goes_on() -> None:
    sizes = {1: LARGEST // 2, 2: LARGEST // 2, 3: 1, 4: LARGEST + 1, 5: 1}

    pages, found = [], list(sizes)
    while found:
        page = page_of(found, 10, lambda n: (n, ""), sizes.__getitem__)
        pages.append(page)
        found = found[len(page.items) :]

    assert [page.items for page in pages] == [[1, 2], [3], [4], [5]]
    after = [encode_cursor((last, "")) for last in (2, 3, 4)]
    assert [page.next_cursor for page in pages] == [*after, None]


def test_a_page_that_is_not_the_last_says_where_it_ends() -> None:
    page = page_of([1, 2, 3], 2, lambda n: (n, ""))

    assert page.items == [1, 2]
    assert page.next_cursor == encode_cursor((2, ""))
