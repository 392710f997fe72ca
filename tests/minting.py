"""Tokens for tests: good ones, and ones that no JWT library would write."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt

SECRET = "a-secret-for-tests-of-forty-characters!!"
FORGED_KEY = "another-secret-that-a-forger-would-bring!"


def claims(**changed: Any) -> dict[str, Any]:
    """A valid token's claims; a claim changed to None is left out."""
    now = int(time.time())
    whole = {"sub": "user-1", "aud": "authenticated", "iat": now, "exp": now + 3600} | changed
    return {name: value for name, value in whole.items() if value is not None}


def signed(payload: dict[str, Any] | None = None, *, secret: str = SECRET, **headers: Any) -> str:
    """An HS256 token, of `claims()` by default, with extra *headers*."""
    return jwt.encode(payload or claims(), secret, algorithm="HS256", headers=headers or None)


def segment(value: Any) -> str:
    """One part of a token: *value* as JSON (text and bytes as they are) in base64url."""
    if isinstance(value, str):
        value = value.encode()
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hand_signed(header: Any, payload: Any, secret: str | bytes = SECRET) -> str:
    """A token of any *header* and *payload*, with a correct HMAC-SHA256 signature."""
    secret = secret.encode() if isinstance(secret, str) else secret
    signing_input = f"{segment(header)}.{segment(payload)}"
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        signing_input.encode(), secret
    )
    return f"{signing_input}.{segment(signature)}"
