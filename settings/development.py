"""Development aids: a token that this service accepts, and the command that uses it.

`python -m settings.development --user-id me --email me@example.com --ttl 12h` prints a token.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import jwt

from settings import BadSetting, Settings, load_settings

USER_ID = "test-user-id"
EMAIL = "test@example.com"
DAY = 86_400.0

# A token may not end after the year 9999, see `services/identity.py`.
_LONGEST = 36_500 * DAY
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def development_token(
    settings: Settings, *, user_id: str = USER_ID, email: str = EMAIL, ttl: float = DAY
) -> str:
    """Sign an HS256 token for *user_id* that is valid for *ttl* seconds.

    Raises `BadSetting` in production, where only the issuer signs tokens.
    """
    secret = settings.jwt_secret
    if settings.production or secret is None:
        raise BadSetting("APP_ENV: development tokens are not made in production")
    now = int(time.time())
    claims = {
        "sub": user_id,
        "email": email,
        "aud": settings.auth.audience,
        "iat": now,
        "exp": now + int(ttl),
    }
    if settings.jwt_issuer is not None:
        claims["iss"] = settings.jwt_issuer
    return jwt.encode(claims, secret.get_secret_value(), algorithm="HS256")


def curl_line(settings: Settings, *, port: int | None = None) -> str:
    """Return the command that asks the service a question, ready to paste, with a valid token.

    *port* is where it listens, if the settings leave that open. Raises `BadSetting` in production.
    """
    return (
        f'curl -N -H "Authorization: Bearer {development_token(settings)}"'
        ' -H "Content-Type: application/json"'
        """ -d '{"message": "Hello, how are you?"}'"""
        f" http://{_reached_at(settings.server.host)}:{port or settings.server.port}/api/v1/chat"
    )


def main(arguments: list[str], environ: Mapping[str, str], dotenv_path: Path) -> int:
    """Print a token, or one line that says why not; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="make token", description="Print a token for development."
    )
    parser.add_argument("--user-id", default=USER_ID, help="the token's `sub`")
    parser.add_argument("--email", default=EMAIL)
    parser.add_argument("--ttl", type=_duration, default=DAY, help="seconds, or 90m, 12h, 7d")
    options = parser.parse_args(arguments)
    try:
        settings = load_settings(environ, dotenv_path)
        token = development_token(
            settings, user_id=options.user_id, email=options.email, ttl=options.ttl
        )
    except BadSetting as exc:
        print(exc, file=sys.stderr)
        return 1
    print(token)
    return 0


def _reached_at(host: str) -> str:
    """The host of a URL for who listens on *host*, on the same machine."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - it is recognised, not listened on
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _duration(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,12})([smhd]?)", text)
    duration = 0 if match is None else int(match[1]) * _UNITS[match[2] or "s"]
    if not 0 < duration <= _LONGEST:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no duration: use seconds, or 90m, 12h, 7d, of a century at most"
        )
    return float(duration)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ, Path(__file__).parents[1] / ".env"))
