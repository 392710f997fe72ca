"""Request heads: what Sanic's parser lets pass and HTTP forbids.

Each of these is a way to have two servers disagree on where a request ends (RFC 9112, section 11.2),
or to smuggle a byte into a header that is read later.
"""

from __future__ import annotations

import re

from sanic.compat import Header

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# No NUL, no LF or CR of its own, no space before a colon, no folded line.
_HEAD = re.compile(
    _TOKEN + rb" [\x21-\x7e]+ HTTP/1\.[01](?:\r\n" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*)*"
)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+;=-]*)(?::[0-9]{0,5})?", re.ASCII)
_LENGTH = re.compile(r"[0-9]{1,15}", re.ASCII)
# What a head may begin with, of which the first line is whole, or is not.
_FIRST_LINE = re.compile(_TOKEN + rb" [\x21-\x7e]+ HTTP/1\.[01]\r\n")
_BEGINNING = re.compile(_TOKEN + rb"(?: [\x20-\x7e]*)?\r?")
_LONE_FEED = re.compile(rb"(?<!\r)\n")
# A coding's name has no case, and may be followed by blanks (RFC 9112, 7; RFC 9110, 5.5).
_CHUNKED = re.compile(rb"\n(?i:transfer-encoding):[ \t]*(?i:chunked)[ \t]*\r")


def may_become_head(beginning: bytearray) -> bool:
    """Whether *beginning*, which is not a whole head yet, may still become one.

    TLS to the plain port, lines that end in LF alone and what else will never be a request need no
    deadline.
    """
    if _LONE_FEED.search(beginning):
        return False
    return bool(
        _FIRST_LINE.match(beginning) if b"\n" in beginning else _BEGINNING.fullmatch(beginning)
    )


def in_usual_spelling(buffer: bytearray, end: int) -> None:
    """Spell `chunked` in the head at *buffer*'s beginning, which ends at *end*, as Sanic knows it."""
    if found := _CHUNKED.search(buffer, 0, end + 1):
        buffer[found.start() : found.end()] = b"\ntransfer-encoding: chunked\r"


def is_sound(head: bytes, version: str, headers: Header) -> bool:
    """Whether *head*, without its empty line, parsed to *headers*, has one meaning only."""
    if not _HEAD.fullmatch(head):
        return False
    hosts = headers.getall("host", [])
    if len(hosts) > 1 or not all(_HOST.fullmatch(_stripped(host)) for host in hosts):
        return False
    lengths = headers.getall("content-length", [])
    codings = headers.getall("transfer-encoding", [])
    if len(lengths) + len(codings) > 1:
        return False
    if not all(_LENGTH.fullmatch(_stripped(length)) for length in lengths):
        return False
    if version == "1.0":
        return not codings
    return bool(hosts) and codings in ([], ["chunked"])


def trimmed(headers: Header) -> Header:
    """*headers* without white space behind their values, which is no part of them (RFC 9110, 5.5)."""
    for value in headers.values():
        if value and value[-1] in " \t":
            return Header([(name, value.rstrip(" \t")) for name, value in headers.items()])
    return headers  # as nearly always


def _stripped(value: str) -> str:
    return value.strip(" \t")
