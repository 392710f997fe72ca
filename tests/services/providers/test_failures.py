"""What an error answer is taken for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from services.errors import (
    ProviderError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
)
from services.providers.failures import http_failure, retry_after, stream_failure


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (307, ProviderRejected, False),
        (400, ProviderRejected, False),
        (401, ProviderRejected, False),
        (403, ProviderRejected, False),
        (404, ProviderRejected, False),
        (408, ProviderUnavailable, True),
        (409, ProviderUnavailable, True),
        (429, ProviderRateLimited, True),
        (500, ProviderUnavailable, True),
        (503, ProviderUnavailable, True),
        (529, ProviderUnavailable, True),
    ],
)
def test_the_status_decides_the_class_and_whether_a_retry_helps(
    status: int, kind: type[ProviderError], retryable: bool
) -> None:
    error = http_failure("openai", status, {}, b"not json")

    assert type(error) is kind
    assert error.retryable is retryable
    assert error.status == status
    assert error.phase == "headers"


@pytest.mark.parametrize(
    ("status", "kind"), [(429, ProviderRateLimited), (503, ProviderUnavailable)]
)
def test_no_retry_helps_a_used_up_quota_whatever_the_status(
    status: int, kind: type[ProviderError]
) -> None:
    body = b'{"error":{"message":"...","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}'

    error = http_failure("openai", status, {}, body)

    assert type(error) is kind
    assert not error.retryable


@pytest.mark.parametrize(
    ("status", "header", "retryable"),
    [(400, "true", True), (500, "false", False), (500, "perhaps", True)],
)
def test_x_should_retry_has_the_last_word(status: int, header: str, retryable: bool) -> None:
    error = http_failure("openai", status, {"x-should-retry": header}, b"")

    assert error.retryable is retryable


@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, None),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "1e306"}, None),
        ({"retry-after": "-0.0"}, None),
        ({"retry-after-ms": "0", "retry-after": "9"}, 9.0),
        ({"retry-after": "2678400"}, 2_678_400.0),
        ({"retry-after": "2678401"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after": "Wed, 99 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 99999999999 07:28:00 GMT"}, None),
    ],
)
def test_a_wait_is_read_in_every_form_and_nonsense_is_none(
    headers: dict[str, str], delay: float | None
) -> None:
    assert retry_after(headers) == delay


@pytest.mark.parametrize("zone", ["GMT", "+0000", "-0000", ""])
def test_a_wait_given_as_a_date_is_the_time_until_then(zone: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)

    delay = retry_after({"retry-after": date.replace("GMT", zone)})

    assert delay is not None
    assert 58 < delay <= 60


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, ProviderUnavailable, 529),
        ({"type": "rate_limit_error", "message": "..."}, ProviderRateLimited, 429),
        ({"code": "rate_limit_exceeded"}, ProviderRateLimited, 429),
        ({"code": "insufficient_quota"}, ProviderRateLimited, 429),
        ({"code": 502, "message": "bad gateway"}, ProviderUnavailable, 502),
        ({"code": "400"}, ProviderRejected, 400),
        ({"type": "server_error", "code": None}, ProviderUnavailable, 500),
        ("just words", ProviderUnavailable, 500),
    ],
)
def test_an_error_in_the_stream_counts_as_the_status_it_would_have_had(
    error: object, kind: type[ProviderError], status: int
) -> None:
    failure = stream_failure("anthropic", error)

    assert type(failure) is kind
    assert failure.status == status
    assert failure.phase == "stream"


def test_a_provider_s_words_are_never_repeated() -> None:
    """They may quote the prompt or the key: OpenAI's 401 does."""
    body = b'{"error":{"message":"Incorrect API key provided: sk-secret","type":"sk secret","code":"invalid_api_key"}}'

    error = http_failure("openai", 401, {}, body)

    assert str(error) == "openai: answered HTTP 401 invalid_api_key: check the API key"
