"""A process of its own: the whole service with the plug-ins of its environment answers one chat.

The provider's pieces come as JSON in the first argument, the user who asks as `ASKED_BY`; what the
client got is printed as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

import aiohttp
from chat_client import ChatClient, events
from scripted_provider import says

from app import create_app
from sanic_server import serve
from settings import Settings
from settings.development import development_token


async def main(pieces: list[str]) -> None:
    settings = Settings.from_env(os.environ)
    token = development_token(settings, user_id=os.environ.get("ASKED_BY", "user-1"))
    app = create_app(settings, provider=says(*pieces))
    async with serve(app) as server, aiohttp.ClientSession() as session:
        client = ChatClient(session, server, {"Authorization": f"Bearer {token}"})
        reply = await client.ask("a question")
    heard = events(reply.body)
    said = {
        "status": reply.status,
        "headers": dict(reply.headers),
        "tokens": [data["text"] for name, data in heard if name == "token"],
        "order": [name for name, _ in heard],
    }
    print(json.dumps(said))


asyncio.run(main(json.loads(sys.argv[1])))
