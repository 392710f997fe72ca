"""What can go wrong, each class with its facts: wire code, HTTP status, sentence, whether a retry helps.

`ServiceError` is refused before the first byte and becomes a JSON body. `ProviderError` happens
while an answer is made, after the status line has left: it becomes a sentence and a `done` frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Detail:
    """One wrong field of a request."""

    field: str
    message: str


class ServiceError(Exception):
    """A request that is refused. `headers` go out with the answer."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    status: ClassVar[int] = 500
    sentence: ClassVar[str] = "Internal server error."

    def __init__(
        self,
        message: str | None = None,
        *,
        details: Sequence[Detail] = (),
        headers: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.message = message or self.sentence
        self.details = tuple(details)
        self.headers = dict(headers or {})
        if retry_after is not None:
            # Whole seconds, rounded up: a client that comes back early is refused again (RFC 9110, 10.2.3).
            self.headers["retry-after"] = str(max(1, -int(-retry_after // 1)))
        super().__init__(self.message)


class ValidationFailed(ServiceError):
    """The body is JSON, and not what the route takes; `details` names every wrong field."""

    code = "VALIDATION_ERROR"
    status = 400
    sentence = "The request is not valid."


class InvalidJson(ServiceError):
    """The body is not JSON."""

    code = "INVALID_JSON"
    status = 400
    sentence = "The request body is not valid JSON."


class BadRequest(ServiceError):
    """The request breaks HTTP, or a header has no meaning here."""

    code = "BAD_REQUEST"
    status = 400
    sentence = "The request could not be understood."


class Unauthorized(ServiceError):
    """No valid token (RFC 6750, section 3)."""

    code = "UNAUTHORIZED"
    status = 401
    sentence = "A valid bearer token is required."

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, headers={"www-authenticate": 'Bearer error="invalid_token"'})


class NotFound(ServiceError):
    """There is no such thing, or it is somebody else's."""

    code = "NOT_FOUND"
    status = 404
    sentence = "Not found."


class RequestTimedOut(ServiceError):
    """The client took too long to send its request."""

    code = "REQUEST_TIMEOUT"
    status = 408
    sentence = "The request did not arrive in time."


class Conflict(ServiceError):
    """The idempotency key was used before, with another body."""

    code = "CONFLICT"
    status = 409
    sentence = "This idempotency key was used with a different request."


class PayloadTooLarge(ServiceError):
    """The body is larger than the route takes."""

    code = "PAYLOAD_TOO_LARGE"
    status = 413
    sentence = "The request body is too large."


class HeadTooLarge(ServiceError):
    """The request line and the headers are larger than the service takes (RFC 6585, section 5)."""

    code = "REQUEST_HEADER_FIELDS_TOO_LARGE"
    status = 431
    sentence = "The head of the request, with all its headers, is larger than 8 KiB."


class UnsupportedMediaType(ServiceError):
    """The body is not JSON by its Content-Type."""

    code = "UNSUPPORTED_MEDIA_TYPE"
    status = 415
    sentence = "Content-Type must be application/json."


class RateLimited(ServiceError):
    """The user asks too often, or has too many streams open."""

    code = "RATE_LIMIT"
    status = 429
    sentence = "Too many requests, please try again soon."


class BudgetExceeded(ServiceError):
    """The user's answers of today may cost no more."""

    code = "BUDGET_EXCEEDED"
    status = 429
    sentence = "The daily budget is used up."


class Overloaded(ServiceError):
    """The process has as many streams open as it takes."""

    code = "OVERLOADED"
    status = 503
    sentence = "The service is at capacity, please try again soon."


class Unavailable(ServiceError):
    """What is stored can't be reached; it may be back in a moment."""

    code = "UNAVAILABLE"
    status = 503
    sentence = "Stored data can't be reached right now, please try again soon."


class StreamsUnavailable(ServiceError):
    """What other processes or earlier ones know of a stream can't be looked up right now."""

    code = "STREAMS_UNAVAILABLE"
    status = 503
    sentence = "The stream cannot be looked up right now, please try again soon."


class KeysUnavailable(ServiceError):
    """The keys that would verify a token can't be fetched, so the token is neither good nor bad."""

    code = "AUTH_UNAVAILABLE"
    status = 503
    sentence = "Tokens cannot be verified right now, please try again soon."


class Draining(ServiceError):
    """The process is about to stop; another one is ready or will be."""

    code = "DRAINING"
    status = 503
    sentence = "The service is restarting, please try again in a moment."


Phase: TypeAlias = Literal["connect", "first_token", "idle", "total", "headers", "stream", "drain"]


class ProviderError(Exception):
    """One attempt at a provider failed.

    `status` is the provider's HTTP status if it sent one; `retry_after` is the wait it asked for, in
    seconds; `phase` is where it happened. `retryable` holds before the first content only.
    """

    code: ClassVar[str] = "SERVER_ERROR"
    sentence: ClassVar[str] = "Server error, please try again later."

    def __init__(
        self,
        provider: str,
        message: str,
        *,
        phase: Phase,
        status: int | None = None,
        retryable: bool = True,
        retry_after: float | None = None,
    ) -> None:
        self.provider = provider
        self.phase: Phase = phase
        self.status = status
        self.retryable = retryable
        self.retry_after = retry_after
        super().__init__(f"{provider}: {message}")


class ProviderUnavailable(ProviderError):
    """Refused, reset, 5xx, or an error object in the stream."""


class ProviderRejected(ProviderError):
    """The provider will not answer this request however often it is asked (bad key, bad model, 4xx)."""


class ProviderProtocolError(ProviderError):
    """What came is not the provider's dialect, or it ended before its end."""


class ProviderTimeout(ProviderError):
    """A deadline passed; `phase` tells which."""

    code = "OPENAI_TIMEOUT"
    sentence = "Request timed out. Please try again with a shorter message."


class ProviderRateLimited(ProviderError):
    """429: too many requests, or (not retryable) the quota is used up."""

    code = "RATE_LIMIT"
    sentence = "Overloaded, please try again soon."
