"""The ledger of one process: what it remembers, and for how long."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from services.limits.ledger import LocalLedger
from services.limits.quotas import Hold, Quotas, Standing, headers


def test_users_who_are_gone_are_forgotten():
    """A million visitors must not be a million accounts."""
    ledger = LocalLedger(Quotas(10_000_000, 10, 100))

    for number in range(10_000):
        hold = Hold(str(number), f"user-{number}", Decimal(0))
        ledger.take(hold)
        ledger.settle(hold, Decimal(0))

    assert len(ledger) < 100


def test_a_user_with_a_running_stream_is_never_forgotten():
    ledger = LocalLedger(Quotas(10_000_000, 1, 100))
    ledger.take(Hold("a", "ann", Decimal(0)))

    for number in range(1000):
        hold = Hold(str(number), f"user-{number}", Decimal(0))
        ledger.take(hold)
        ledger.settle(hold, Decimal(0))

    assert ledger.take(Hold("b", "ann", Decimal(0))).refused == "streams"


def test_what_was_spent_today_is_never_forgotten():
    ledger = LocalLedger(Quotas(10_000_000, 1, 100, Decimal(1)))
    hold = Hold("a", "ann", Decimal(1))
    ledger.take(hold)
    ledger.settle(hold, Decimal(1))

    for number in range(1000):
        hold = Hold(str(number), f"user-{number}", Decimal(0))
        ledger.take(hold)
        ledger.settle(hold, Decimal(0))

    assert ledger.take(Hold("b", "ann", Decimal("0.01"))).refused == "budget"


@given(st.integers(1, 100_000))
def test_after_one_request_all_but_one_are_left(requests):
    quotas = Quotas(requests, 10, 100)
    ledger = LocalLedger(quotas)

    standing = ledger.take(Hold("a", "ann", Decimal(0)))

    assert headers(quotas, standing)["ratelimit"].startswith(f'"requests";r={requests - 1};t=')


@given(
    requests=st.integers(1, 100_000),
    debt=st.floats(0, 60),
    streams=st.integers(0, 50),
)
def test_what_is_left_is_never_negative_nor_more_than_the_quota(requests, debt, streams):
    quotas = Quotas(requests, 10, 100)

    field = headers(quotas, Standing(None, debt, streams, Decimal(0)))["ratelimit"]

    left = [int(item.partition(";r=")[2].partition(";")[0]) for item in field.split(",")]
    assert 0 <= left[0] <= requests
    assert 0 <= left[1] <= 10
