"""Say on every answer who served it. Needs nothing of the service but its hooks."""

from pydantic import BaseModel, Field


class ServedBy:
    """Adds the header `x-served-by`."""

    class Options(BaseModel):
        """Who it is."""

        name: str = Field(min_length=1, pattern=r"^[ -~]+$")

    def __init__(self, options):
        self._name = options.name

    async def on_response(self, request, response):
        """Add the header."""
        response.headers["x-served-by"] = self._name
