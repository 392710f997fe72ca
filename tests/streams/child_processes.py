"""Real processes of the service that share a Redis, a database and an upstream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.process.process_service import Service, started


@contextmanager
def children(count: int, folder: Path, variables: Mapping[str, str]) -> Iterator[list[Service]]:
    """*count* processes with *variables*; those that still run at the end are killed."""
    variables = {"LOG_FILE": "none", **variables}
    with ExitStack() as stack:
        processes = [
            stack.enter_context(started(folder, variables, healthy=False)) for _ in range(count)
        ]
        for process in processes:
            process.await_health()
        yield processes
