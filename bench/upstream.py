"""A cheap OpenAI-speaking upstream, whose every answer is scripted by the message it is asked.

`python -m bench.upstream --port 9000 --report closes.txt`. A message such as
`bench id=7 rate=50 tokens=250 hold=end` asks for 250 tokens, 50 per second. The first token leaves
with the headers, the second after a random part of a period, so that streams do not march in step.

- `rate`: tokens per second; 0 is a flood, as fast as the other side takes it.
- `tokens`: how many; then the end of the answer.
- `hold`: fall silent instead of going on, before the `headers`, before the `first` token, or
  before the `end` of the answer.
- `id`: report the request and a connection closed under it, with the monotonic clock's nanoseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import time
from typing import TextIO, cast

import uvloop

_SCRIPT = re.compile(rb"bench id=(\d+) rate=([\d.]+) tokens=(\d+) hold=(\w+)")
_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
_BURST = 32

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(choices: bytes, usage: bytes = b"null") -> bytes:
    """One event in one HTTP chunk, with all the fields that OpenAI sends."""
    return _chunk(
        b'data: {"id":"chatcmpl-BenchBenchBenchBenchBench","object":"chat.completion.chunk",'
        b'"created":1790000000,"model":"gpt-4o-mini-2024-07-18","service_tier":"default",'
        b'"system_fingerprint":"fp_0123456789","choices":[%b],"usage":%b}\n\n' % (choices, usage)
    )


_ROLE = _event(
    b'{"index":0,"delta":{"role":"assistant","content":"","refusal":null},'
    b'"logprobs":null,"finish_reason":null}'
)
_TOKEN = _event(b'{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}')
_TAIL = (
    _event(b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}')
    + _event(b"", b'{"prompt_tokens":9,"completion_tokens":100,"total_tokens":109}')
    + _chunk(b"data: [DONE]\n\n")
    + b"0\r\n\r\n"
)


class Upstream(asyncio.Protocol):
    """One connection: answers one request after the other."""

    def __init__(self, report: TextIO) -> None:
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._buffer = b""
        self._id = 0
        self._left = 0
        self._hold = b"no"
        self._period = 0.0
        self._timer: asyncio.Handle | None = None
        self._due = 0.0
        self._writable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass

    def data_received(self, data: bytes) -> None:
        """Take in a request; when it is complete, play its script."""
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not separator or length is None or len(body) < int(length[1]):
            return
        self._buffer = b""
        script = _SCRIPT.search(body)
        assert script is not None, "the message is no script"
        self._play(int(script[1]), float(script[2]), int(script[3]), script[4])

    def pause_writing(self) -> None:
        """The other side is slower: wait."""
        self._writable = False

    def resume_writing(self) -> None:
        """Go on with a flood."""
        self._writable = True
        if self._left and not self._period:
            self._flood()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report a connection that was closed before its answer was complete."""
        if self._timer is not None:
            self._timer.cancel()
        self._note("closed")

    def _play(self, number: int, rate: float, tokens: int, hold: bytes) -> None:
        self._id, self._left, self._hold = number, tokens, hold
        self._period = 1 / rate if rate else 0.0
        self._note("asked")
        if hold == b"headers":
            return
        if hold == b"first":
            self._transport.write(_HEAD + _ROLE)
        elif rate:
            self._transport.write(_HEAD + _ROLE + _TOKEN)
            self._left -= 1
            self._due = self._loop.time() + self._period * random.random()
            self._next()
        else:
            self._transport.write(_HEAD + _ROLE)
            self._flood()

    def _tick(self) -> None:
        self._transport.write(_TOKEN)
        self._left -= 1
        self._due += self._period
        self._next()

    def _next(self) -> None:
        if self._left:
            self._timer = self._loop.call_at(self._due, self._tick)
        else:
            self._end()

    def _flood(self) -> None:
        if self._left and self._writable and not self._transport.is_closing():
            count = min(_BURST, self._left)
            self._left -= count
            for _ in range(count):  # one write per token, as model servers do
                self._transport.write(_TOKEN)
            self._timer = self._loop.call_soon(self._flood)
        elif not self._left:
            self._end()

    def _end(self) -> None:
        if self._hold != b"end":
            self._transport.write(_TAIL)
            self._id = 0

    def _note(self, what: str) -> None:
        if self._id:
            self._report.write(f"{what} {self._id} {time.monotonic_ns()}\n")


async def _serve(port: int, report: TextIO) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: Upstream(report), "127.0.0.1", port, backlog=4096
    )
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="A cheap OpenAI-speaking upstream.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--report", required=True, help="file that reports are appended to")
    options = parser.parse_args()
    with open(options.report, "a", buffering=1) as report:  # noqa: PTH123 - line-buffered
        uvloop.run(_serve(options.port, report))


if __name__ == "__main__":
    main()
