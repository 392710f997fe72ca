from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.pricing import BUILT_IN, BadPriceFile, Price, Prices, plain

amounts = st.decimals(0, 1_000_000, places=12)
prices = st.builds(Price, amounts, amounts, amounts, amounts)
counts = st.integers(0, 10**12)


def test_the_guides_answer_costs_what_the_guide_says() -> None:
    cost = Prices().cost("gpt-4o-mini", tokens_in=5, tokens_out=15)

    assert cost == Decimal("0.00000975")
    assert plain(cost) == "0.00000975"


def test_cached_tokens_cost_what_cached_tokens_cost() -> None:
    """1,000 in of which 800 were cached: 200 * 0.15 + 800 * 0.075 + 100 * 0.60, in millionths."""
    cost = Prices().cost("gpt-4o-mini", tokens_in=1_000, tokens_out=100, cached=800)

    assert cost == Decimal("0.00015")


def test_more_cached_tokens_than_tokens_are_as_many_as_there_are() -> None:
    cost = Prices().cost("gpt-4o-mini", tokens_in=10, tokens_out=0, cached=99)

    assert cost == Decimal("0.00000075")


def test_tokens_written_to_a_cache_cost_what_writing_costs() -> None:
    """Anthropic's count: 10 as input, 100 written at a quarter more, 1,000 read at a tenth, 7 out."""
    cost = Prices().cost(
        "claude-haiku-4-5-20251001", tokens_in=1_110, tokens_out=7, cached=1_000, written=100
    )

    assert cost == Decimal("0.000270")


def test_openai_takes_nothing_for_writing() -> None:
    plain_cost = Prices().cost("gpt-4o-mini", tokens_in=10, tokens_out=1)

    assert Prices().cost("gpt-4o-mini", tokens_in=10, tokens_out=1, written=10) == plain_cost


def test_no_more_tokens_are_written_than_are_left() -> None:
    cost = Prices().cost("claude-haiku-4-5", tokens_in=10, tokens_out=0, cached=6, written=99)

    assert cost == Decimal("0.0000056")


@given(
    price=prices,
    tokens_in=counts,
    tokens_out=counts,
    shares=st.tuples(st.fractions(0, 1), st.fractions(0, 1)),
)
def test_a_cost_is_exact(
    price: Price, tokens_in: int, tokens_out: int, shares: tuple[Fraction, Fraction]
) -> None:
    """Checked in fractions, which cannot round."""
    cached = int(tokens_in * shares[0])
    written = int((tokens_in - cached) * shares[1])

    cost = Prices({"m": price}).cost(
        "m", tokens_in=tokens_in, tokens_out=tokens_out, cached=cached, written=written
    )

    assert cost is not None
    assert Fraction(cost) * 1_000_000 == (
        (tokens_in - cached - written) * Fraction(price.input)
        + cached * Fraction(price.cached_input)
        + written * Fraction(price.cache_write)
        + tokens_out * Fraction(price.output)
    )


@given(price=prices, parts=st.lists(st.tuples(counts, counts), max_size=8))
def test_the_parts_cost_what_the_whole_costs(price: Price, parts: list[tuple[int, int]]) -> None:
    table = Prices({"m": price})

    apart = [table.cost("m", tokens_in=i, tokens_out=o) for i, o in parts]
    whole = table.cost("m", tokens_in=sum(i for i, _ in parts), tokens_out=sum(o for _, o in parts))

    assert sum(Fraction(cost) for cost in apart if cost is not None) == Fraction(whole or 0)


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=30, min_value=-(10**9), max_value=10**9
    )
)
def test_a_plain_amount_is_the_amount_without_exponent(amount: Decimal) -> None:
    text = plain(amount)

    assert Decimal(text) == amount
    assert set(text) <= set("-.0123456789")
    assert not ("." in text and text.endswith(("0", ".")))


@pytest.mark.parametrize(
    ("amount", "text"),
    [("9.75E-6", "0.00000975"), ("0E-8", "0"), ("100", "100"), ("1E+3", "1000"), ("1.50", "1.5")],
)
def test_plain_amounts(amount: str, text: str) -> None:
    assert plain(Decimal(amount)) == text


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-Infinity", "sNaN"])
def test_what_is_no_amount_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="finite"):
        plain(Decimal(amount))


@pytest.mark.parametrize(
    ("dated", "name"),
    [
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("gpt-4.1-nano-2025-04-14", "gpt-4.1-nano"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("claude-haiku-4-5@20251001", "claude-haiku-4-5"),
        ("claude-opus-4-1-20250805", "claude-opus-4-1"),
        ("gpt-4o-latest", "gpt-4o"),
    ],
)
def test_a_dated_model_costs_what_the_longest_name_it_starts_with_costs(
    dated: str, name: str
) -> None:
    assert Prices().find(dated) is BUILT_IN[name]


@pytest.mark.parametrize(
    "model",
    [
        "",
        "gpt-5-pro",
        "gpt-5.5",
        "gpt-4o-audio-preview",
        "gpt-4o-mini-2024-07-18-custom",
        "ft:gpt-4o-mini-2024-07-18:acme::abc",
        "claude-opus-4-9",
        "GPT-4o",
        "gpt-4o-\uff12\uff10\uff12\uff14",
        "gpt-4o-latest\n",
    ],
)
def test_another_model_has_no_price_rather_than_a_wrong_one(model: str) -> None:
    assert Prices().cost(model, tokens_in=5, tokens_out=15) is None


def test_an_unknown_model_is_warned_of_once(warnings: list[tuple[str, dict[str, Any]]]) -> None:
    table = Prices()

    for model in ("gpt-9", "gpt-9", "gpt-10", "gpt-9"):
        table.find(model)

    assert warnings == [
        ("Model has no price", {"model": "gpt-9"}),
        ("Model has no price", {"model": "gpt-10"}),
    ]


def test_unknown_models_without_end_are_not_warned_of_without_end(
    warnings: list[tuple[str, dict[str, Any]]],
) -> None:
    table = Prices()

    for n in range(1_000):
        table.find(f"model-{n}")

    assert len(warnings) == 100


def test_a_price_file_adds_and_overrides(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text(
        '{"gpt-4o-mini": {"input": 1, "cached_input": 0.5, "output": 2},'
        ' "llama": {"input": 0.1, "output": 0.3},'
        ' "claude-x": {"input": 1, "cache_write": 1.25, "output": 2}}'
    )

    table = Prices.load(path)

    assert table.cost("gpt-4o-mini-2024-07-18", tokens_in=2, tokens_out=1, cached=1) == Decimal(
        "0.0000035"
    )
    assert table.cost("llama", tokens_in=3, tokens_out=1, cached=3) == Decimal("0.0000006")
    assert table.cost("llama", tokens_in=3, tokens_out=1, written=3) == Decimal("0.0000006")
    assert table.cost("claude-x", tokens_in=4, tokens_out=0, written=4) == Decimal("0.000005")
    assert table.find("gpt-4o") is BUILT_IN["gpt-4o"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "Expecting value"),
        ("[]", "must be an object that maps"),
        ('{"m": 1}', "m: must be an object"),
        ('{"m": {"input": 1}}', "m: output is missing"),
        ('{"m": {"input": 1, "output": 2, "ouput": 3}}', "m: ouput is not known"),
        ('{"m": {"input": -1, "output": 2}}', "m: input must be 0 to 1000000"),
        ('{"m": {"input": 1e9, "output": 2}}', "m: input must be 0 to 1000000"),
        ('{"m": {"input": 1, "output": 1e-13}}', "m: output must be 0 to 1000000"),
        ('{"m": {"input": NaN, "output": 2}}', "m: input must be a number"),
        ('{"m": {"input": "0.15", "output": 2}}', "m: input must be a number"),
        ('{"m": {"input": true, "output": 2}}', "m: input must be a number"),
        ('{"m": {"input": 1, "cached_input": null, "output": 2}}', "m: cached_input must be"),
        ('{"m": {"input": 1e9999999999999999999, "output": 2}}', "exponent"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_bad_price_file_is_refused_with_its_name_and_entry(
    tmp_path: Path, content: str, complaint: str
) -> None:
    path = tmp_path / "prices.json"
    path.write_text(content)

    with pytest.raises(BadPriceFile, match=complaint) as caught:
        Prices.load(path)

    assert str(path) in str(caught.value)


def test_a_price_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")

    for name in ("missing.json", "binary.json"):
        with pytest.raises(BadPriceFile, match=name):
            Prices.load(tmp_path / name)


def test_no_model_of_the_table_costs_less_than_its_cache() -> None:
    for name, price in BUILT_IN.items():
        assert 0 < price.cached_input <= price.input <= price.cache_write < price.output, name
