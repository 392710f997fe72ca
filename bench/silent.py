"""The service with a provider that connects and then says nothing: what an open stream itself costs.

`python -m bench.silent` takes the settings of `python app.py`, and differs from it in its provider only.
"""

from __future__ import annotations

import asyncio
import os

from app import serve
from services.events import Batches, Connected
from services.providers.faults import FaultInjection
from services.providers.retry import Retrying
from services.turn import Prompt
from settings import Settings


class Silent:
    """Never gets to its first word."""

    name = "stub"

    async def stream(self, prompt: Prompt) -> Batches:
        """Wait until closed."""
        yield (Connected(self.name, "gpt-4o-mini", 0.0),)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    serve(Settings.from_env(os.environ), provider=Retrying(FaultInjection(Silent())))
