"""Let a request choose a failure to be played, by `X-Test-Scenario`."""

from __future__ import annotations

from middleware.base import Middleware, Request
from services.errors import Detail, ValidationFailed
from services.providers.faults import SCENARIOS

_HEADER = "X-Test-Scenario"


class FaultInjection(Middleware):
    """Sets `request.ctx.scenario`; where scenarios are off the header means nothing."""

    async def on_request(self, request: Request) -> None:
        """Take the scenario's name, or refuse one that does not exist."""
        request.ctx.scenario = None
        if request.route is None or not request.app.ctx.settings.test_scenarios:
            return
        given = request.headers.get(_HEADER, "").strip()
        if not given:
            return
        if given not in SCENARIOS:
            known = f"must be one of {', '.join(SCENARIOS)}"
            raise ValidationFailed(details=[Detail(_HEADER, known)])
        request.ctx.scenario = given
