from __future__ import annotations

import re

import pytest
from small_app import built_in, client_of, small_app

NEW_ID = re.compile(r"req_[0-9a-f]{16}")


@pytest.fixture
def app():
    return small_app(built_in("request_id"))


async def test_each_request_gets_an_id_of_its_own(app):
    async with client_of(app) as client:
        ids = [(await client.get("/open")).headers["x-request-id"] for _ in range(2)]

    assert all(NEW_ID.fullmatch(given) for given in ids)
    assert ids[0] != ids[1]


@pytest.mark.parametrize("path", ["/open", "/broken", "/nowhere"])
async def test_every_answer_carries_the_id(app, path):
    async with client_of(app) as client:
        answer = await client.get(path, {"x-request-id": "abc.DEF_1-2"})

    assert answer.headers.getall("x-request-id") == ["abc.DEF_1-2"]


async def test_a_stream_carries_the_id(app):
    app.ctx.may_end.set()

    async with client_of(app) as client:
        answer = await client.send("POST", "/api/v1/chat", {"x-request-id": "mine"})

    assert answer.headers["x-request-id"] == "mine"


async def test_an_answer_to_what_is_not_http_carries_an_id(app):
    async with client_of(app) as client:
        answer = await client.send_raw(b"NONSENSE\r\n\r\n")

    assert re.search(r"\r\nx-request-id: req_[0-9a-f]{16}\r\n", answer)


@pytest.mark.parametrize("given", ["0012", "A" * 128, "6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "-"])
async def test_a_sound_id_of_the_client_is_kept_to_the_letter(app, given):
    async with client_of(app) as client:
        answer = await client.get("/open", {"X-REQUEST-ID": given})

    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"two words",
        b"A" * 129,
        b"caf\xc3\xa9",
        b"\xd9\xa3\xd9\xa4",
        b"semi;colon",
        b'"quoted"',
        b"line\nfeed",
        b"abc\n",
        b"abc\x00",
        b"\x1b[31mred",
        b"one\r\nX-Request-Id: two",
    ],
)
async def test_any_other_id_is_replaced(app, given):
    """It would go into headers, rows and log lines."""
    request = b"GET /open HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-Request-Id: %b\r\n\r\n"

    async with client_of(app) as client:
        answer = await client.send_raw(request % given)

    (line,) = re.findall(r"(?im)^x-request-id: (.*)\r$", answer)
    assert NEW_ID.fullmatch(line)


async def test_log_lines_of_a_request_carry_its_id(app, lines):
    async with client_of(app) as client:
        for request_id in ("one", "two"):
            await client.get("/open", {"x-request-id": request_id})

    ids = [
        line["extra"]["request_id"] for line in lines if line["message"] == "A line of the handler"
    ]
    assert ids == ["one", "two"]
