"""Whose address a request comes from, as the proxies in front of the service tell it."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

from middleware.base import Request

Address: TypeAlias = IPv4Address | IPv6Address

# Some proxies add the port, and an IPv6 address then stands in brackets (RFC 7239, section 6).
_WRITTEN = re.compile(r"\[([^\]]*)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")


def forwarded(request: Request, position: int) -> str | None:
    """The entry of `X-Forwarded-For` that is *position* from its end; None if it has not so many.

    The last entry is the nearest proxy's. What stands before those of known proxies may be lies.
    """
    lines: list[str] = request.headers.getall("x-forwarded-for", [])
    chain = ",".join(lines).split(",") if lines else []
    return chain[-position].strip() if len(chain) >= position else None


def address_of(text: str) -> Address | None:
    """The address that *text* is, with a port or without; None if it is none.

    An IPv4 address that is written as an IPv6 one is an IPv4 address.
    """
    text = text.strip()
    if written := _WRITTEN.fullmatch(text):
        text = written[1] or written[2] or ""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
