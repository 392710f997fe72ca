"""Problems: every way a request can fail becomes the one JSON shape."""

from __future__ import annotations

import json
from asyncio import CancelledError
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from loguru import logger
from sanic import HTTPResponse
from sanic.exceptions import MethodNotAllowed, SanicException
from sanic.handlers import ErrorHandler

from blueprints.context import ChatRequest, request_id_of
from services.errors import (
    BadRequest,
    NotFound,
    PayloadTooLarge,
    RequestTimedOut,
    ServiceError,
    Unauthorized,
)


class HttpRefused(ServiceError):
    """HTTP itself, or a plug-in in its words, refuses the request; the fields come from the status."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        try:
            name, phrase = HTTPStatus(status).name, HTTPStatus(status).phrase
        except ValueError:  # a plug-in's own
            name, phrase = f"STATUS_{status}", f"Status {status}"
        self.code = name  # type: ignore[misc] # one class for all statuses
        self.status = status  # type: ignore[misc]
        super().__init__(f"{phrase}.", headers=headers)


KNOWN: dict[int, type[ServiceError]] = {
    400: BadRequest,
    404: NotFound,
    408: RequestTimedOut,
    413: PayloadTooLarge,
    500: ServiceError,
}

# What an answer of that status never lacks, whoever made it (RFC 9110, 15.5.2; docs/wire-protocol.md).
PROMISED: dict[int, dict[str, str]] = {
    401: Unauthorized().headers,
    429: {"retry-after": "1"},
    503: {"retry-after": "1"},
}


class ProblemHandler(ErrorHandler):
    """Answers every exception, also those raised before there is a route or a request."""

    def default(self, request: ChatRequest, exception: BaseException) -> HTTPResponse:
        """*exception* as a JSON response; what is unforeseen is logged with its traceback."""
        error = _translate(request, exception)
        if error.status >= 500 and error.code == ServiceError.code:
            logger.opt(exception=exception).bind(request_id=request_id_of(request)).error(
                "Unhandled exception"
            )
        return problem(error, request_id_of(request))


def problem(error: ServiceError, request_id: str) -> HTTPResponse:
    """*error* as the one JSON shape."""
    body: dict[str, Any] = {
        "code": error.code,
        "message": error.message,
        "request_id": request_id,
    }
    if error.details:
        body["details"] = [
            {"field": detail.field, "message": detail.message} for detail in error.details
        ]
    headers = {name.lower(): str(value) for name, value in error.headers.items()}
    for name, value in PROMISED.get(error.status, {}).items():
        headers.setdefault(name, value)
    return HTTPResponse(
        json.dumps({"error": body}),
        status=error.status,
        headers=headers,
        content_type="application/json",
    )


def _translate(request: ChatRequest, exception: BaseException) -> ServiceError:
    match exception:
        case ServiceError():
            return exception
        case MethodNotAllowed():
            return HttpRefused(405, {"allow": ", ".join(_allowed(request))})
        case SanicException(status_code=status, headers=headers):
            if status in KNOWN:
                return KNOWN[status](headers=headers)
            return HttpRefused(status, headers) if 400 <= status <= 599 else ServiceError()
        case CancelledError():
            # The server gave up waiting for its own handler.
            return HttpRefused(503, {})
        case _:
            return ServiceError()


def _allowed(request: ChatRequest) -> list[str]:
    """The methods of the path; Sanic knows them only for paths without parameters."""
    allowed = []
    for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"):
        with suppress(SanicException):
            request.app.router.get(request.path, method, request.headers.get("host"))
            allowed.append(method)
    return allowed
