"""Many at once, and mixed traffic for a while: nothing fails, nothing is left."""

from __future__ import annotations

import asyncio
import resource

import pytest
from patience import PATIENCE
from process_service import started

from bench.soak import soak
from tests.hostile.raw_http import connected, request

STREAMS = 1_000


@pytest.fixture
def _many_sockets():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("_many_sockets")
def test_a_thousand_streams_at_once_are_all_answered(tmp_path, bearer):
    """All of them are open before the first one may end: the stub tells each a story."""

    async def run(port: int) -> list[bytes]:
        opened = asyncio.Event()
        count = 0

        async def stream() -> bytes:
            nonlocal count
            async with connected(port) as wire:
                wire.send(request(bearer, message="Tell me a long story"))
                await wire.reader.readuntil(b"event: token")
                count += 1
                if count == STREAMS:
                    opened.set()
                await opened.wait()
                return await wire.reader.readuntil(b"\n\n")

        async with asyncio.timeout(4 * PATIENCE):
            return await asyncio.gather(*[stream() for _ in range(STREAMS)])

    with started(tmp_path) as service:
        frames = asyncio.run(run(service.port))
        metrics = service.request("GET", "/metrics")
        output = service.output

    assert len(frames) == STREAMS
    assert all(frame.startswith(b'\ndata: {"text":"') for frame in frames)
    assert metrics.status_code == 200
    assert "Traceback" not in output


def test_mixed_traffic_leaves_memory_descriptors_and_rows_in_order(tmp_path):
    """The short form of `python -m bench.soak`."""
    asyncio.run(soak(tmp_path, 5, lambda line: None))
