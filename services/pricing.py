"""What an answer costs: exact decimal arithmetic on a table of prices per model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation
from pathlib import Path
from typing import Any, Final

from loguru import logger


class BadPriceFile(Exception):
    """The price file can't be used; the message names the file and the entry."""


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens: `cached_input` for input read from the provider's cache, `cache_write` for written."""

    input: Decimal
    cached_input: Decimal
    output: Decimal
    cache_write: Decimal


def _openai(input: str, cached_input: str, output: str) -> Price:  # noqa: A002 - the price's own word
    """Its cache fills itself, at the price of input."""
    return Price(Decimal(input), Decimal(cached_input), Decimal(output), Decimal(input))


def _anthropic(input: str, cached_input: str, output: str) -> Price:  # noqa: A002
    """To write for five minutes, as is usual, takes a quarter more than input, for every model."""
    cache_write = Decimal(input) * Decimal("1.25")
    return Price(Decimal(input), Decimal(cached_input), Decimal(output), cache_write)


# The sources are https://developers.openai.com/api/docs/pricing, the pages of the models beside it, and
# https://platform.claude.com/docs/en/about-claude/pricing, of November 2026. Checked on 2026-11-22:
# - against stored copies of these pages: Anthropic's models except Sonnet 4.5 and 4.6; GPT-4.1 nano, GPT-5 nano,
#   GPT-5.4 nano, and GPT-5.4 mini except its cache;
# - against what others reported of them in 2026: the rest, and the cache of Sonnet 5.5 (halved on 2026-10-07).
# Models whose price depends on the length of the prompt are left out: unknown is better than wrong.
BUILT_IN: Final[Mapping[str, Price]] = {
    "gpt-4o-mini": _openai("0.15", "0.075", "0.60"),
    "gpt-4o": _openai("2.50", "1.25", "10.00"),
    "gpt-4o-2024-05-13": _openai("5.00", "5.00", "15.00"),
    "gpt-4.1": _openai("2.00", "0.50", "8.00"),
    "gpt-4.1-mini": _openai("0.40", "0.10", "1.60"),
    "gpt-4.1-nano": _openai("0.10", "0.025", "0.40"),
    "gpt-5": _openai("1.25", "0.125", "10.00"),
    "gpt-5-mini": _openai("0.25", "0.025", "2.00"),
    "gpt-5-nano": _openai("0.05", "0.005", "0.40"),
    "gpt-5.4-mini": _openai("0.75", "0.075", "4.50"),
    "gpt-5.4-nano": _openai("0.20", "0.02", "1.25"),
    "o3": _openai("2.00", "0.50", "8.00"),
    "o3-mini": _openai("1.10", "0.55", "4.40"),
    "o4-mini": _openai("1.10", "0.275", "4.40"),
    "claude-fable-5-1": _anthropic("10.00", "0.25", "50.00"),
    "claude-fable-5": _anthropic("10.00", "1.00", "50.00"),
    "claude-opus-5-5": _anthropic("4.00", "0.20", "20.00"),
    "claude-opus-5": _anthropic("5.00", "0.50", "25.00"),
    "claude-opus-4-8": _anthropic("5.00", "0.50", "25.00"),
    "claude-opus-4-7": _anthropic("5.00", "0.50", "25.00"),
    "claude-opus-4-6": _anthropic("5.00", "0.50", "25.00"),
    "claude-opus-4-5": _anthropic("5.00", "0.50", "25.00"),
    "claude-opus-4-1": _anthropic("15.00", "1.50", "75.00"),
    "claude-sonnet-5-5": _anthropic("2.00", "0.10", "10.00"),
    "claude-sonnet-5": _anthropic("2.00", "0.20", "10.00"),
    "claude-sonnet-4-6": _anthropic("3.00", "0.30", "15.00"),
    "claude-sonnet-4-5": _anthropic("3.00", "0.30", "15.00"),
    "claude-haiku-4-5": _anthropic("1.00", "0.10", "5.00"),
}

# What may follow a name in the table: `gpt-4o-2024-08-06`, `claude-haiku-4-5-20251001`,
# `gpt-4-0613`, `claude-sonnet-4-5@20250929`, `gpt-4o-latest`. Anything else is another model
# (`gpt-5` is not `gpt-5-pro`), and a wrong price is worse than none.
_DATED: Final = re.compile(r"(.+?)(?:-latest|[-@](?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}|[0-9]{4}))")

_EXACT: Final = Context(prec=80, traps=[Inexact])
_MOST_USD: Final = 1_000_000
_MOST_DECIMALS: Final = 12
_MOST_WARNINGS: Final = 100


class Prices:
    """Prices by model name; a dated name has the price of the longest name it starts with."""

    def __init__(self, table: Mapping[str, Price] = BUILT_IN) -> None:
        self._table = dict(table)
        self._unknown: set[str] = set()

    @classmethod
    def load(cls, path: Path) -> Prices:
        """The built-in prices, with those in the JSON file at *path* added or put in their place.

        The file maps names to `{"input": 0.15, "cached_input": 0.075, "output": 0.6}`, in USD per
        million tokens; without `cached_input`, and without `cache_write`, such tokens cost what others do.
        Raises `BadPriceFile`.
        """
        try:
            content = json.loads(path.read_text("utf-8"), parse_float=Decimal, parse_int=Decimal)
        except InvalidOperation as exc:
            raise BadPriceFile(f"{path}: a number has too large an exponent") from exc
        except (OSError, ValueError, RecursionError) as exc:
            raise BadPriceFile(f"{path}: {exc}") from exc
        if not isinstance(content, dict):
            raise BadPriceFile(f"{path}: must be an object that maps model names to prices")
        given = {model: _parse(f"{path}: {model}", entry) for model, entry in content.items()}
        return cls({**BUILT_IN, **given})

    def find(self, model: str) -> Price | None:
        """The price of *model*, or None, with one warning in the log for each unknown name."""
        if price := self._table.get(model):
            return price
        if (dated := _DATED.fullmatch(model)) and (price := self._table.get(dated[1])):
            return price
        # Names come from providers: do not remember, nor log, more of them than a person would read.
        if model not in self._unknown and len(self._unknown) < _MOST_WARNINGS:
            self._unknown.add(model)
            logger.bind(model=model).warning("Model has no price")
        return None

    def cost(
        self, model: str, *, tokens_in: int, tokens_out: int, cached: int = 0, written: int = 0
    ) -> Decimal | None:
        """Exactly what *tokens_in* and *tokens_out* cost in USD; None if unknown.

        Of *tokens_in*, *cached* were read from the provider's cache, and *written* written to it.
        """
        price = self.find(model)
        if price is None:
            return None
        cached = min(cached, tokens_in)
        written = min(written, tokens_in - cached)
        usd = _EXACT.multiply(price.output, Decimal(tokens_out))
        usd = _EXACT.fma(price.cached_input, Decimal(cached), usd)
        usd = _EXACT.fma(price.cache_write, Decimal(written), usd)
        usd = _EXACT.fma(price.input, Decimal(tokens_in - cached - written), usd)
        return usd.scaleb(-6, _EXACT)


def plain(amount: Decimal) -> str:
    """*amount* as digits with at most one point: no exponent, no zeros at the end. Raises ValueError if not finite."""
    if not amount.is_finite():
        raise ValueError("not a finite amount")
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _parse(where: str, entry: Any) -> Price:
    if not isinstance(entry, dict):
        raise BadPriceFile(f"{where}: must be an object with input and output")
    if unknown := entry.keys() - {"input", "cached_input", "output", "cache_write"}:
        raise BadPriceFile(f"{where}: {min(unknown)} is not known")
    if missing := {"input", "output"} - entry.keys():
        raise BadPriceFile(f"{where}: {min(missing)} is missing")
    same = entry["input"]
    full = {"input": same, "cached_input": same, "cache_write": same, **entry}
    return Price(**{name: _usd(f"{where}: {name}", amount) for name, amount in full.items()})


def _usd(where: str, amount: Any) -> Decimal:
    # `json` gives NaN and Infinity as floats, everything else that is a number as Decimal.
    if not isinstance(amount, Decimal):
        raise BadPriceFile(f"{where} must be a number")
    exponent = amount.as_tuple().exponent
    written_out = isinstance(exponent, int) and exponent >= -_MOST_DECIMALS
    if not written_out or not 0 <= amount <= _MOST_USD:
        raise BadPriceFile(
            f"{where} must be 0 to {_MOST_USD} with at most {_MOST_DECIMALS} decimals"
        )
    return amount
