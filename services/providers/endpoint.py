"""Where a provider takes requests: the way there, and the head that all of them begin with."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final

import aiohttp
from yarl import URL

_ALWAYS: Final = {"user-agent": "ai-chat-api", "accept-encoding": "identity"}
# What aiohttp refuses, too (RFC 9110, section 5.5): such a value could end the line, and begin another.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Endpoint:
    """POST requests with *headers* to *url*, by way of *proxy*, a URL, if there is one.

    Raises `ValueError`, without quoting it, for what has no place in a head.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        proxy: str | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        address = URL(url)
        via = None if proxy is None else URL(proxy)
        fields = {**_ALWAYS, **headers, "accept": "*/*"}
        if user := _credentials(address):
            if "authorization" in headers:
                raise ValueError("the URL has a user in it, and there is an API key: which is it?")
            fields["authorization"] = user
        self.route = _route(address.with_user(None), via, loop)
        """What tells aiohttp's connector where to go. It is never sent."""
        target = self.route.url.raw_path_qs
        if via is not None and address.scheme == "http":
            target = str(self.route.url)  # RFC 9112, section 3.2.2
            if user := _credentials(via):
                fields["proxy-authorization"] = user
        begin = [f"POST {target} HTTP/1.1", f"host: {self.route.headers['host']}"]
        self._head = _head(begin, fields)
        self._last_head = _head(begin, {**fields, "connection": "close"})

    def request(self, body: bytes, *, last: bool = False) -> bytes:
        """A request with *body*, whole; *last* if it is to be the connection's last one."""
        return b"%b%d\r\n\r\n%b" % (self._last_head if last else self._head, len(body), body)


def _route(
    address: URL, proxy: URL | None, loop: asyncio.AbstractEventLoop
) -> aiohttp.ClientRequest:
    # The connector would add the host to these headers when it connects. They are part of the pool's key, which
    # may not change then.
    host = address.host_port_subcomponent or ""
    tunnel_headers = None if proxy is None else {"Host": host, **_ALWAYS}
    return aiohttp.ClientRequest(
        "POST", address, proxy=proxy, proxy_headers=tunnel_headers, loop=loop
    )


def _credentials(url: URL) -> str | None:
    """What a header says for the user in *url*, encoded as the connector does it for a tunnel."""
    if not (url.user or url.password):
        return None
    return aiohttp.encode_basic_auth(url.user or "", url.password or "", "latin1")


def _head(begin: list[str], fields: Mapping[str, str]) -> bytes:
    for name, value in fields.items():
        if _CONTROL.search(name) or _CONTROL.search(value):
            raise ValueError("a header holds a control character")
    lines = [*begin, *(f"{name}: {value}" for name, value in fields.items()), "content-length: "]
    return "\r\n".join(lines).encode()
