"""The head of a stream is what Sanic would have sent, whatever a plug-in put into its headers."""

import pytest
from sanic import HTTPResponse
from sanic.compat import Header
from sanic.headers import format_http1_response

from blueprints.response_head import stream_head


def sanics(response):
    return format_http1_response(response.status, response.processed_headers)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {}),
        (200, {"x-request-id": "req_1", "content-type": "text/plain"}),
        (200, Header([("vary", "Origin"), ("set-cookie", "a=1"), ("set-cookie", "b=2")])),
        (200, {"x-note": "first\r\nset-cookie: forged"}),
        (200, {"x-note": "a\nb"}),
        (200, {"x-note": "a\rb\n"}),
        (200, {"x-note": "a\0b"}),
        (200, {"x-no\r\nte": "a"}),
        (200, {"x-note": "Grüße"}),
        (200, {"x-count": 3}),
        (206, {"x-note": "a"}),
    ],
)
def test_a_head_is_what_sanic_makes_of_it(status, headers):
    response = HTTPResponse(status=status, headers=headers, content_type="text/event-stream")

    assert stream_head(response) == sanics(response)


def test_a_line_end_in_a_header_begins_no_other():
    response = HTTPResponse(headers={"x-note": "a\r\nset-cookie: forged"})

    assert b"\r\nset-cookie" not in stream_head(response)
