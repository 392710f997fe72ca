"""Bearer tokens signed with a secret: which are believed, which are refused."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger
from minting import SECRET, claims, hand_signed, segment, signed

from services.errors import Unauthorized
from services.identity import Identity, Principal, bearer_token

HS256 = {"alg": "HS256", "typ": "JWT"}


@pytest.fixture
def identity() -> Identity:
    return Identity(SECRET, "authenticated")


@pytest.fixture
def refusals():
    """What is logged, as (phrase, extra) pairs."""
    lines: list[tuple[str, dict[str, Any]]] = []
    sink = logger.add(lambda line: lines.append((line.record["message"], line.record["extra"])))
    yield lines
    logger.remove(sink)


@pytest.mark.parametrize(
    "header", ["Bearer abc.def.ghi", "bearer abc.def.ghi", "BEARER   abc.def.ghi"]
)
def test_the_scheme_is_read_in_any_case(header):
    assert bearer_token(header) == "abc.def.ghi"


def test_no_header_means_no_token():
    assert bearer_token(None) is None


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
        bearer_token(header)


@given(st.text())
def test_any_header_is_a_token_or_refused(header):
    try:
        token = bearer_token(header)
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


FORGED_KEY = "another-secret-that-a-forger-would-bring!"

UNTRUSTED_CLAIMS = {
    "expired": claims(exp=int(time.time()) - 60),
    "expired in 1970": claims(exp=0),
    "no exp": claims(exp=None),
    "exp as text": claims(exp="4000000000"),
    "exp as true": claims(exp=True),
    "exp as a list": claims(exp=[4_000_000_000]),
    "exp beyond any date": claims(exp=10**18),
    "exp of 400 digits": claims(exp=10**400),
    "exp as the greatest float": claims(exp=1.7e308),
    "exp infinite": claims(exp=float("inf")),
    "exp not a number": claims(exp=float("nan")),
    "not valid yet": claims(nbf=int(time.time()) + 3000),
    "nbf as text": claims(nbf="0"),
    "nbf as true": claims(nbf=True),
    "nbf infinite": claims(nbf=float("inf")),
    "issued in the future": claims(iat=int(time.time()) + 3000),
    "iat as text": claims(iat="0"),
    "iat as an object": claims(iat={}),
    "no sub": claims(sub=None),
    "sub empty": claims(sub=""),
    "sub blank": claims(sub="  "),
    "sub a number": claims(sub=5),
    "sub too long": claims(sub="x" * 256),
    "sub with a line feed": claims(sub="user-1\nx"),
    "sub with NUL": claims(sub="user-1\x00"),
    "sub with a line separator": claims(sub="user-1\u2028"),
    "sub with a lone surrogate": claims(sub="user-1\ud800"),
    "no aud": claims(aud=None),
    "aud of another service": claims(aud="anon"),
    "aud empty": claims(aud=""),
    "aud an empty list": claims(aud=[]),
    "aud a list of other things": claims(aud=["authenticated", 5]),
    "aud an object": claims(aud={"authenticated": True}),
    "aud as a prefix": claims(aud="authenticated2"),
}


@pytest.mark.parametrize("payload", UNTRUSTED_CLAIMS.values(), ids=UNTRUSTED_CLAIMS.keys())
async def test_untrustworthy_claims_are_refused(identity, payload):
    token = hand_signed(HS256, payload)

    with pytest.raises(Unauthorized):
        await identity.verify(token)


UNTRUSTED_TOKENS = {
    "another secret": signed(secret=FORGED_KEY),
    "alg none, no signature": f"{segment({'alg': 'none'})}.{segment(claims())}.",
    "alg None, another case": f"{segment({'alg': 'NoNe'})}.{segment(claims())}.",
    "alg none, a signature": hand_signed({"alg": "none"}, claims()),
    "no alg": hand_signed({"typ": "JWT"}, claims()),
    "alg null": hand_signed({"alg": None}, claims()),
    "alg a list": hand_signed({"alg": ["HS256"]}, claims()),
    "alg an object": hand_signed({"alg": {"HS256": 1}}, claims()),
    "alg in lower case": hand_signed({"alg": "hs256"}, claims()),
    "HS512": jwt.encode(claims(), SECRET * 2, algorithm="HS512"),
    "RS256 without a key set": hand_signed({"alg": "RS256", "kid": "a"}, claims()),
    "ES256 without a key set": hand_signed({"alg": "ES256", "kid": "a"}, claims()),
    "kid a number": hand_signed(HS256 | {"kid": 5}, claims()),
    "kid null": hand_signed(HS256 | {"kid": None}, claims()),
    "jwk brought along": hand_signed(
        HS256 | {"jwk": {"kty": "oct", "k": segment(FORGED_KEY)}}, claims(), FORGED_KEY
    ),
    "jku elsewhere": hand_signed(HS256 | {"jku": "http://127.0.0.1:1/keys"}, claims(), FORGED_KEY),
    "x5u elsewhere": hand_signed(HS256 | {"x5u": "http://127.0.0.1:1/cert"}, claims(), FORGED_KEY),
    "x5c brought along": hand_signed(HS256 | {"x5c": ["MIIB"]}, claims(), FORGED_KEY),
    "crit unknown": hand_signed(HS256 | {"crit": ["exp2"], "exp2": 1}, claims()),
    "crit empty": hand_signed(HS256 | {"crit": []}, claims()),
    "crit text": hand_signed(HS256 | {"crit": "b64", "b64": True}, claims()),
    "b64 false": hand_signed(HS256 | {"crit": ["b64"], "b64": False}, claims()),
    "b64 false, not critical": hand_signed(HS256 | {"b64": False}, claims()),
    "header a list": hand_signed([], claims()),
    "header no JSON": hand_signed("{", claims()),
    "payload a list": hand_signed(HS256, []),
    "payload no JSON": hand_signed(HS256, "{"),
    "payload no UTF-8": hand_signed(HS256, b"\xff\xfe\xfd"),
    "payload nested too deep": hand_signed(HS256, "[" * 4000),
    "a number of too many digits": hand_signed(HS256, '{"exp":' + "9" * 5000 + "}"),
    "duplicate sub, the last one blank": hand_signed(
        HS256, json.dumps(claims())[:-1] + ',"sub":" "}'
    ),
    "duplicate alg, the last one none": hand_signed('{"alg":"HS256","alg":"none"}', claims()),
    "empty": "",
    "one part": "abc",
    "two parts": ".".join(signed().split(".")[:2]),
    "four parts": signed() + ".",
    "two dots too many": signed() + ".a.b",
    "only dots": "..",
    "signature cut": signed()[:-1],
    "signature empty": signed().rsplit(".", 1)[0] + ".",
    "white space inside": signed().replace(".", " .", 1),
    "base64 with + and /": signed() + "+/",
    "not ASCII": signed() + "é",
    "a lone surrogate": signed() + "\ud800",
    "oversized": signed(claims(note="x" * 8192)),
    "oversized, no token": "a" * 1_000_000,
}


@pytest.mark.parametrize("token", UNTRUSTED_TOKENS.values(), ids=UNTRUSTED_TOKENS.keys())
async def test_a_token_that_breaks_rfc_8725_is_refused(identity, token):
    with pytest.raises(Unauthorized):
        await identity.verify(token)


@pytest.mark.parametrize("issuer", [None, "https://elsewhere.example", 5, ["https://id.example"]])
async def test_a_configured_issuer_must_be_the_tokens(issuer):
    identity = Identity(SECRET, "authenticated", "https://id.example")
    await identity.verify(signed(claims(iss="https://id.example")))

    with pytest.raises(Unauthorized):
        await identity.verify(hand_signed(HS256, claims(iss=issuer)))


@pytest.mark.parametrize("position", range(3))
async def test_every_part_of_a_token_is_signed(identity, position):
    """Any change is seen, also of the base64 digit whose last bits carry nothing."""
    parts = signed().split(".")
    part = parts[position]
    changed = []
    for index in range(0, len(part), 7):
        other = "A" if part[index] != "A" else "B"
        parts[position] = part[:index] + other + part[index + 1 :]
        changed.append(".".join(parts))
    parts[position] = part[:-1] + chr(ord(part[-1]) + 1)
    changed.append(".".join(parts))

    for token in changed:
        with pytest.raises(Unauthorized):
            await identity.verify(token)


@given(token=st.text() | st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*", fullmatch=True))
def test_any_text_as_a_token_is_refused(token):
    identity = Identity(SECRET, "authenticated")

    with pytest.raises(Unauthorized):
        at_once(identity.verify(token))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(
    header=st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "typ"]), JSON),
    name=st.sampled_from(["sub", "aud", "exp", "nbf", "iat", "iss", "jti", "email"]),
    value=JSON,
)
def test_any_json_in_a_signed_token_is_a_principal_or_refused(header, name, value):
    """Nothing an issuer might sign ends in a 500."""
    identity = Identity(SECRET, "authenticated")
    token = hand_signed(HS256 | header, claims() | {name: value})

    try:
        principal = at_once(identity.verify(token))
    except Unauthorized:
        return

    assert principal.user_id.strip()
    assert isinstance(principal.expires_at, int)


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


def at_once(verification: Coroutine[Any, Any, Principal]) -> Principal:
    """Run *verification* without a loop, which holds as long as it waits for nothing."""
    with pytest.raises(StopIteration) as end:
        verification.send(None)
    return end.value.value
