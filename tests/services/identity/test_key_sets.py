"""Key sets as issuers write them: what is a key, and what is passed over."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from hypothesis import given
from hypothesis import strategies as st
from key_server import SigningKey

from services.jwks import BadKeySet, open_keys, read_key_set


def _unusable(elliptic: SigningKey, rsa: SigningKey) -> dict[str, Any]:
    ec, big = elliptic.public, rsa.public
    es256, p384 = jwt.get_algorithm_by_name("ES256"), generate_private_key(SECP384R1())
    return {
        "an HMAC key": {"kty": "oct", "k": "c2VjcmV0" * 8, "alg": "HS256", "kid": "bad"},
        "an HMAC key that says RS256": {"kty": "oct", "k": "c2Vj", "alg": "RS256", "kid": "bad"},
        "RSA that says HS256": big | {"alg": "HS256"},
        "RSA that says PS256": big | {"alg": "PS256"},
        "RSA that says ES256": big | {"alg": "ES256"},
        "RSA that says none": big | {"alg": "none"},
        "RSA with a list of algorithms": big | {"alg": ["RS256"]},
        "for encryption": big | {"use": "enc"},
        "for signing only": ec | {"key_ops": ["sign"]},
        "with operations of another type": ec | {"key_ops": "verify"},
        "a private key": es256.to_jwk(elliptic.private, as_dict=True),
        "a key of P-384": es256.to_jwk(p384.public_key(), as_dict=True),
        "RSA of 1024 bits": SigningKey("bad", "RS256", bits=1024).public,
        "RSA of 16384 bits": big | {"n": "_" * 2731},
        "RSA with an even exponent": big | {"e": "Ag"},
        "RSA without a modulus": {name: big[name] for name in ("kty", "e", "alg")},
        "RSA with a modulus of another type": big | {"n": 5},
        "off the curve": ec | {"x": ec["y"], "y": ec["x"]},
        "on another curve": ec | {"crv": "P-384"},
        "on no curve": ec | {"crv": None},
        "without x": {name: ec[name] for name in ("kty", "crv", "y", "alg")},
        "with x not base64": ec | {"x": "\u20ac"},
        "of no type": ec | {"kty": None},
        "of a list of types": ec | {"kty": ["EC"]},
        "of the type OKP": {"kty": "OKP", "crv": "Ed25519", "x": ec["x"]},
    }


async def test_keys_that_should_verify_nothing_are_ignored(key_server, elliptic, rsa):
    bad = {name: key | {"kid": "bad"} for name, key in _unusable(elliptic, rsa).items()}
    key_server.publish(*bad.values(), 5, None, [], "key", elliptic)

    async with open_keys(key_server.url) as keys:
        found = [await keys.find("bad", name) for name in ("ES256", "RS256", "HS256", "none")]
        good = await keys.find("elliptic", "ES256")

    assert found == [None, None, None, None]
    assert good is not None


@pytest.mark.parametrize("kid", [None, "", 5, ["a"]])
def test_a_key_without_an_id_is_ignored(elliptic, kid):
    assert read_key_set({"keys": [elliptic.public | {"kid": kid}]}) == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
MEMBERS = ("kty", "kid", "alg", "use", "key_ops", "crv", "x", "y", "n", "e")


@given(changed=st.dictionaries(st.sampled_from(MEMBERS), JSON), which=st.booleans())
def test_any_json_as_a_key_is_read_or_ignored(elliptic, rsa, changed, which):
    key = (elliptic if which else rsa).public | changed

    assert len(read_key_set({"keys": [key]})) <= 1


@given(JSON)
def test_any_json_is_a_key_set_or_not(document):
    try:
        keys = read_key_set(json.loads(json.dumps(document)))
    except BadKeySet:
        return

    assert keys == {}
