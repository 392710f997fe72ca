"""Tokens that nobody should believe: what RFC 8725 warns of, and anything else one could send."""

from __future__ import annotations

import json
import time
from collections.abc import Coroutine
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from minting import FORGED_KEY, SECRET, claims, hand_signed, segment, signed

from services.errors import Unauthorized
from services.identity import Identity, Principal

HS256 = {"alg": "HS256", "typ": "JWT"}


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


def at_once(verification: Coroutine[Any, Any, Principal]) -> Principal:
    """Run *verification* without a loop, which holds as long as it waits for nothing."""
    with pytest.raises(StopIteration) as end:
        verification.send(None)
    return end.value.value
