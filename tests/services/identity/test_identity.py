"""Bearer tokens signed with a secret: which are believed, which are refused."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logged import logged, phrase_and_fields
from minting import FORGED_KEY, SECRET, claims, signed

from services.errors import Unauthorized
from services.identity import Identity, Principal, bearer_token

HS256 = {"alg": "HS256", "typ": "JWT"}


@pytest.fixture
def refusals():
    """What is logged, as (phrase, extra) pairs."""
    with logged(phrase_and_fields, "DEBUG") as lines:
        yield lines


@pytest.mark.parametrize(
    "header", ["Bearer abc.def.ghi", "bearer abc.def.ghi", "BEARER   abc.def.ghi"]
)
def test_the_scheme_is_read_in_any_case(header):
    assert bearer_token([header]) == "abc.def.ghi"


def test_no_header_means_no_token():
    assert bearer_token([]) is None


@pytest.mark.parametrize(
    "header",
    [
        "",
        " ",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "Bearer\tabc",
        "Bearer abc def",
        "Bearer abc,Bearer abc",
        "Bearer abc, Basic abc",
        "Basic abc",
        "Token abc",
        "Bearerabc",
        " Bearer abc",
        "Bearer abc\n",
        "Bearer abc\r\nx-forged: 1",
        "Bearer a=b",
        "Bearer \u212aabc",  # the Kelvin sign, which lowers to k
        "Bearer abc\x00",
        'Bearer "abc"',
    ],
)
def test_a_header_that_is_no_bearer_token_is_refused(header):
    with pytest.raises(Unauthorized):
        bearer_token([header])


def test_two_headers_are_no_token():
    with pytest.raises(Unauthorized):
        bearer_token(["Bearer abc", "Bearer abc"])


@given(st.text())
def test_any_header_is_a_token_or_refused(header):
    try:
        token = bearer_token([header])
    except Unauthorized:
        return

    assert token


async def test_a_valid_token_names_its_principal(identity):
    token = signed(claims(email="ann@example.com", exp=4_000_000_000))

    principal = await identity.verify(token)

    assert principal == Principal("user-1", "ann@example.com", 4_000_000_000)


@pytest.mark.parametrize("audience", ["authenticated", ["other", "authenticated"]])
async def test_the_audience_is_text_or_a_list(identity, audience):
    token = signed(claims(aud=audience))

    principal = await identity.verify(token)

    assert principal.user_id == "user-1"


@pytest.mark.parametrize("subject", ["3fa85f64-5717-4562-b3fc-2c963f66afa6", "Zoë 🙂", "x" * 255])
async def test_a_subject_need_not_be_a_uuid(identity, subject):
    token = signed(claims(sub=subject))

    principal = await identity.verify(token)

    assert principal.user_id == subject


@pytest.mark.parametrize("email", [None, 5, "", "a\nb@example.com", "x" * 321, ["a@example.com"]])
async def test_an_email_that_is_none_is_left_out(identity, email):
    token = signed(claims(email=email))

    principal = await identity.verify(token)

    assert principal.email is None


async def test_a_fractional_expiry_is_a_number_too(identity):
    token = signed(claims(exp=4_000_000_000.75))

    principal = await identity.verify(token)

    assert principal.expires_at == 4_000_000_000


async def test_a_kid_does_not_matter_with_a_secret(identity):
    """Supabase's HS256 tokens carry one; nothing looks it up, so nothing can be injected by it."""
    token = signed(kid="../../../dev/null'; DROP TABLE keys; --")

    principal = await identity.verify(token)

    assert principal.user_id == "user-1"


@pytest.mark.parametrize("skew", [-25, 25])
async def test_a_clock_may_be_off_by_the_leeway(identity, skew):
    now = int(time.time())
    token = signed(claims(exp=now + 1 + skew, iat=now + skew, nbf=now + skew))

    principal = await identity.verify(token)

    assert principal.expires_at == now + 1 + skew


async def test_a_refusal_tells_the_log_why_and_the_client_nothing(identity, refusals):
    expired = signed(claims(exp=int(time.time()) - 60))
    forged = signed(secret=FORGED_KEY)

    with pytest.raises(Unauthorized) as first:
        await identity.verify(expired)
    with pytest.raises(Unauthorized) as second:
        await identity.verify(forged)

    assert first.value.message == second.value.message == "A valid bearer token is required."
    assert refusals == [
        ("Token refused", {"reason": "ExpiredSignatureError"}),
        ("Token refused", {"reason": "InvalidSignatureError"}),
    ]


async def test_a_remembered_token_still_expires():
    """Remembering saves the signature check, never the expiry."""
    now = time.time()
    expiry = int(now)
    identity = Identity(SECRET, "authenticated", leeway=now - expiry + 2)
    token = signed(claims(exp=expiry))
    await identity.verify(token)

    async def use_until_refused() -> None:
        for _ in range(6_000):
            await asyncio.sleep(0.01)
            await identity.verify(token)

    with pytest.raises(Unauthorized):
        await use_until_refused()
    assert time.time() >= now + 2


async def test_only_so_many_tokens_are_remembered():
    identity = Identity(SECRET, "authenticated", remembered=2)

    for number in range(5):
        await identity.verify(signed(claims(sub=f"user-{number}")))

    assert len(identity._known) == 2


async def test_refused_tokens_are_not_remembered(identity):
    with pytest.raises(Unauthorized):
        await identity.verify(signed(secret=FORGED_KEY))

    assert not identity._known


def test_a_verifier_without_any_key_is_a_mistake():
    with pytest.raises(ValueError, match="secret or a key source"):
        Identity(None, "authenticated")
