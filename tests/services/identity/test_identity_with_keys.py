"""Bearer tokens signed with a private key, beside those signed with the secret."""

from __future__ import annotations

import asyncio
import json

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from key_server import KeyServer, SigningKey
from minting import SECRET, claims, hand_signed, signed

from services.errors import KeysUnavailable, Unauthorized
from services.identity import Identity
from services.jwks import open_keys


@pytest.fixture
async def identity(key_server: KeyServer, elliptic: SigningKey, rsa: SigningKey):
    """Trusts the secret and two published keys."""
    key_server.publish(elliptic, rsa)
    async with open_keys(key_server.url) as keys:
        yield Identity(SECRET, "authenticated", keys=keys)


async def test_secret_and_both_kinds_of_key_are_believed_at_once(identity, elliptic, rsa):
    """During a rotation from the secret to keys, nobody is logged out."""
    tokens = [signed(), elliptic.sign(sub="user-2"), rsa.sign(sub="user-3")]

    principals = [await identity.verify(token) for token in tokens]

    assert [principal.user_id for principal in principals] == ["user-1", "user-2", "user-3"]


async def test_a_kid_does_not_keep_a_token_from_the_secret(identity, key_server):
    principal = await identity.verify(signed(kid="elliptic"))

    assert principal.user_id == "user-1"


async def test_without_a_secret_no_hs256_token_is_believed(key_server, elliptic):
    key_server.publish(elliptic)

    async with open_keys(key_server.url) as keys:
        identity = Identity(None, "authenticated", keys=keys)
        await identity.verify(elliptic.sign())
        with pytest.raises(Unauthorized):
            await identity.verify(signed())


async def test_a_public_key_is_never_a_secret(identity, elliptic, rsa):
    """The RS/HS confusion: anyone has the public key, so anyone could sign with it."""
    forged = []
    for key in (rsa, elliptic):
        public = key.private.public_key()
        texts = [
            public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            json.dumps(key.public).encode(),
        ]
        headers = [{"alg": alg, "kid": key.kid} for alg in ("HS256", "RS256", "ES256")]
        forged += [hand_signed(header, claims(), text) for header in headers for text in texts]

    for token in forged:
        with pytest.raises(Unauthorized):
            await identity.verify(token)


async def test_a_forged_signature_is_refused(identity):
    for algorithm in ("ES256", "RS256"):
        stranger = SigningKey({"ES256": "elliptic", "RS256": "rsa"}[algorithm], algorithm)
        with pytest.raises(Unauthorized):
            await identity.verify(stranger.sign())


@pytest.mark.parametrize("kid", ["unknown", "", "../elliptic", "elliptic\x00", "' OR 1=1 --"])
async def test_a_key_nobody_published_is_refused(identity, elliptic, kid):
    with pytest.raises(Unauthorized):
        await identity.verify(elliptic.sign(kid=kid))


async def test_a_token_that_names_no_key_is_refused(identity):
    token = hand_signed({"alg": "ES256"}, claims())

    with pytest.raises(Unauthorized):
        await identity.verify(token)


async def test_a_key_is_used_with_its_own_algorithm_only(identity, rsa):
    swapped = rsa.sign(kid="elliptic")
    probabilistic = rsa.sign(algorithm="PS256")
    longer = rsa.sign(algorithm="RS512")

    for token in (swapped, probabilistic, longer):
        with pytest.raises(Unauthorized):
            await identity.verify(token)


async def test_claims_matter_with_keys_too(identity, elliptic):
    with pytest.raises(Unauthorized):
        await identity.verify(elliptic.sign(aud="other"))
    with pytest.raises(Unauthorized):
        await identity.verify(elliptic.sign(exp=0))


async def test_an_outage_refuses_nobody_for_good(key_server, elliptic):
    key_server.send(b"", status=500)

    async with open_keys(key_server.url) as keys:
        identity = Identity(SECRET, "authenticated", keys=keys)
        with pytest.raises(KeysUnavailable):
            await identity.verify(elliptic.sign())

        assert (await identity.verify(signed())).user_id == "user-1"


async def test_a_remembered_token_does_not_outlive_its_withdrawn_key(key_server, elliptic, rsa):
    key_server.publish(elliptic)
    token = elliptic.sign()

    async def use_until_refused(identity: Identity) -> None:
        for _ in range(6_000):
            await asyncio.sleep(0.01)
            await identity.verify(token)

    async with open_keys(key_server.url, renew_after=0.0) as keys:
        identity = Identity(None, "authenticated", keys=keys, remember_for=0.05)
        await identity.verify(token)
        key_server.publish(rsa)

        with pytest.raises(Unauthorized):
            await use_until_refused(identity)
