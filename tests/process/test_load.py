"""Many at once, and mixed traffic for a while: nothing fails, nothing is left."""

from __future__ import annotations

import asyncio
import json
import re
import resource

import pytest
from patience import PATIENCE
from process_service import started

from bench.soak import soak
from tests.hostile.raw_http import connected, request

STREAMS = 1_000
DONE = b'event: done\ndata: {"finish_reason":"stop"}\n\n'
LAST_CHUNK = b"\r\n0\r\n\r\n"


@pytest.fixture
def _many_sockets():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("_many_sockets")
def test_a_thousand_streams_at_once_are_answered_to_their_end(tmp_path, bearer):
    """They are asked at once, and each is told a story of 25 s, to the last word."""
    most = 0
    reading = set()

    async def stream(port: int) -> bytes:
        nonlocal most
        async with connected(port) as wire:
            wire.send(request(bearer, message="Tell me a long story"))
            answer = await wire.reader.readuntil(b"event: token")
            reading.add(wire)
            most = max(most, len(reading))
            while data := await wire.reader.read(65_536):
                answer += data
                if answer.endswith(LAST_CHUNK):
                    break
            reading.remove(wire)
            return answer

    async def run(port: int) -> list[bytes]:
        async with asyncio.timeout(5 * PATIENCE):
            return await asyncio.gather(*[stream(port) for _ in range(STREAMS)])

    with started(tmp_path) as service:
        answers = asyncio.run(run(service.port))
        metrics = service.request("GET", "/metrics").text
        assert service.stop() == 0
        output = service.output

    stories = {story(answer) for answer in answers}
    assert len(answers) == STREAMS
    assert most == STREAMS  # all at the same time
    assert len(stories) == 1
    assert len(stories.pop().split()) > 100
    assert all(answer.endswith(DONE + LAST_CHUNK) for answer in answers)
    assert re.search(
        r'^chat_turns_total\{.*finish_reason="stop".*\} 1000\.0$', metrics, re.MULTILINE
    )
    assert "Traceback" not in output


def story(answer: bytes) -> str:
    """The words of an answer, in order."""
    tokens = re.findall(rb"event: token\ndata: (\{.*?\})\n\n", answer)
    return "".join(json.loads(token)["text"] for token in tokens)


def test_mixed_traffic_leaves_memory_descriptors_and_rows_in_order(tmp_path):
    """The short form of `python -m bench soak`."""
    asyncio.run(soak(tmp_path, 5, lambda line: None))
