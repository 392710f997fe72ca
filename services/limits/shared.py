"""The shared ledger as one process sees it: asked and told while in reach, done without otherwise."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import islice
from math import inf
from time import monotonic
from typing import TypeVar

from loguru import logger as log

from services.limits.ledger import LedgerUnavailable, SharedLedger
from services.limits.quotas import Hold, Settlement, Standing

# Holds in one message to the ledger, and settlements kept for after an outage.
BATCH = 500
BACKLOG = 50_000

A = TypeVar("A")
T = TypeVar("T")


class SharedLimits:
    """Brings one process's holds to the shared ledger.

    *running* are the process's holds, by id. The ledger has *patience* seconds to answer, and is left
    alone for *retry* seconds when it didn't; an outage is logged once.
    """

    def __init__(
        self,
        ledger: SharedLedger,
        running: Mapping[str, Hold],
        *,
        renew_every: float,
        patience: float,
        retry: float,
    ) -> None:
        self._ledger = ledger
        self._running = running
        self._renew_every = renew_every
        self._patience = patience
        self._retry = retry
        self._ask_again_at = -inf
        self._is_down = False
        self._ended: deque[Settlement] = deque()
        self._something_ended = asyncio.Event()
        self._writing = asyncio.Lock()

    async def take(self, hold: Hold) -> Standing | None:
        """What the ledger says of *hold*; None while it is out of reach, or too busy settling."""
        with suppress(LedgerUnavailable, TimeoutError):
            async with asyncio.timeout(2 * self._patience):
                if self._ended or self._writing.locked():
                    # The slot that was freed a moment ago may be the one that is asked for.
                    await self.settle()
                return await self._ask(self._ledger.take, hold)
        return None

    def end(self, settlement: Settlement) -> None:
        """Have *settlement* made soon. In an outage too long for the backlog the hold lapses instead."""
        if len(self._ended) < BACKLOG:
            self._ended.append(settlement)
        self._something_ended.set()

    async def keep_up(self) -> None:
        """Settle and renew, until cancelled."""
        renew_at = monotonic() + self._renew_every
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(renew_at - monotonic()):
                    await self._something_ended.wait()
            self._something_ended.clear()
            await self.settle()
            if monotonic() >= renew_at:
                await self._renew()
                renew_at = monotonic() + self._renew_every

    async def settle(self) -> None:
        """Settle what has ended; what the ledger doesn't take now is kept for the next time."""
        async with self._writing:
            with suppress(LedgerUnavailable):
                for _ in range(0, len(self._ended), BATCH):
                    batch = list(islice(self._ended, BATCH))
                    await self._ask(self._ledger.settle, batch)
                    for _ in batch:
                        self._ended.popleft()

    async def _renew(self) -> None:
        # After an outage this also enters what was admitted meanwhile.
        holds = list(self._running.values())
        with suppress(LedgerUnavailable):
            for start in range(0, len(holds), BATCH):
                # Under the lock, a hold that ends now is settled after it was renewed, not before.
                async with self._writing:
                    batch = [
                        hold for hold in holds[start : start + BATCH] if hold.id in self._running
                    ]
                    await self._ask(self._ledger.renew, batch)

    async def _ask(self, question: Callable[[A], Awaitable[T]], about: A) -> T:
        if monotonic() < self._ask_again_at:
            raise LedgerUnavailable("left alone after a failure")
        try:
            async with asyncio.timeout(self._patience):
                answer = await question(about)
        except (LedgerUnavailable, TimeoutError) as exc:
            self._ask_again_at = monotonic() + self._retry
            if not self._is_down:
                log.warning("Shared limits not available", error=f"{type(exc).__name__}: {exc}")
            self._is_down = True
            raise LedgerUnavailable("no answer") from exc
        if self._is_down:
            log.info("Shared limits available again")
            self._is_down = False
        return answer
