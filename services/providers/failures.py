"""What a provider's failure means: which class of error, and when to come back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import msgspec

from services.errors import (
    Phase,
    ProviderError,
    ProviderProtocolError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)

# A provider's own words may quote the prompt or the key, so only identifiers are repeated.
_IDENTIFIER = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z")
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]{1,64}/[a-z0-9.+-]{1,64}\Z")
_RETRYABLE = frozenset({408, 409, 429})
# Longer, it is no wait that anybody has meant.
_LONGEST_WAIT = 31 * 86_400


def http_failure(
    provider: str, status: int, headers: Mapping[str, str], body: bytes
) -> ProviderError:
    """The error that an answer other than 200 stands for.

    *headers* must find names in any case. The policy is the OpenAI SDK's: 408, 409, 429 and 5xx
    may be retried, a used-up quota may not whatever its status, and `x-should-retry` has the last word.
    """
    failure = _classified(
        provider, status, _identifiers(_json(body)), phase="headers", said="answered HTTP"
    )
    return _advised(failure, headers)


def no_stream(
    provider: str, media_type: str, headers: Mapping[str, str], body: bytes
) -> ProviderError:
    """The error that a 200 of *media_type* stands for, when an event stream was asked for.

    Some gateways put an error there; anything else comes from a wrong address, or from what knows
    no streams, and will come again.
    """
    said = _json(body)
    if isinstance(said, dict) and (said.get("error") or said.get("object") == "error"):
        identifiers = _identifiers(said)
        status = _implied_status(identifiers)
        failure = _classified(
            provider, status, identifiers, phase="headers", said="answered HTTP 200 with an error"
        )
        return _advised(failure, headers)
    kind = media_type if _MEDIA_TYPE.match(media_type) else "something"
    message = f"answered {kind} instead of an event stream: check the base URL"
    return ProviderProtocolError(provider, message, phase="headers", retryable=False)


def stream_failure(provider: str, error: object) -> ProviderError:
    """The error that an error object inside a stream stands for."""
    identifiers = _identifiers(error)
    return _classified(
        provider, _implied_status(identifiers), identifiers, phase="stream", said="sent an error"
    )


def timed_out(provider: str, phase: Phase) -> ProviderTimeout:
    """The error for a deadline that passed; there is no time for a retry after the total one."""
    return ProviderTimeout(
        provider, f"timed out ({phase})", phase=phase, retryable=phase != "total"
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, above 0, by `retry-after-ms` or `retry-after` (a number or a date); None if neither says."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        value = headers.get(name, "")
        try:
            delay = float(value) / unit
        except ValueError:
            delay = _until(value)
        # float() also reads "nan" and "inf". A moment that is over is no wait: everybody who was
        # told of it would come back at once, and together.
        if 0 < delay <= _LONGEST_WAIT:
            return delay
    return None


def _until(date: str) -> float:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return math.nan
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime.now(UTC)).total_seconds()


def _advised(failure: ProviderError, headers: Mapping[str, str]) -> ProviderError:
    """*failure* with what the headers say of a retry."""
    failure.retry_after = retry_after(headers)
    match headers.get("x-should-retry"):
        case "true":
            failure.retryable = True
        case "false":
            failure.retryable = False
    return failure


def _classified(
    provider: str, status: int, identifiers: tuple[str, ...], *, phase: Phase, said: str
) -> ProviderError:
    message = " ".join(dict.fromkeys((said, str(status), *identifiers)))
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        message += ": check the API key"
    kind: type[ProviderError] = ProviderRejected
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = ProviderRateLimited
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _RETRYABLE:
        kind = ProviderUnavailable
    retryable = kind is not ProviderRejected and "insufficient_quota" not in identifiers
    return kind(provider, message, phase=phase, status=status, retryable=retryable)


def _json(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None


def _identifiers(error: object) -> tuple[str, ...]:
    """The `type` and `code` of an error object, bare or inside `error`."""
    if isinstance(error, dict) and isinstance(error.get("error"), dict):
        error = error["error"]
    if not isinstance(error, dict):
        return ()
    found = (str(error.get(key) or "") for key in ("type", "code"))
    return tuple(dict.fromkeys(name for name in found if _IDENTIFIER.match(name)))


def _implied_status(identifiers: tuple[str, ...]) -> int:
    """The HTTP status that an error in a stream would have had, had it come before the headers."""
    for name in identifiers:
        if re.fullmatch("[45][0-9][0-9]", name):
            return int(name)  # OpenRouter's codes are HTTP statuses
        if name == "insufficient_quota" or name.startswith("rate_limit"):
            return 429
        if name == "overloaded_error":
            return 529
    # "An error object as the first chunk" is retried, so the unknown counts as the server's fault.
    return 500
